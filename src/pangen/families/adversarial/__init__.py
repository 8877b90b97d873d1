"""Generators trained against a critic."""

from pangen.entry import IMAGES, Entry

MODELS = (
    Entry(
        "gan",
        "adversarial",
        "pangen.families.adversarial.gan:GAN",
        "generative adversarial network, non-saturating loss with R1 penalty",
        "Goodfellow et al. 2014; Mescheder et al. 2018",
        (*IMAGES, "standardise"),
        "none",
        "implicit density: the generator gives samples, not probabilities",
        ("critic",),
        conditional=True,
        showcase=True,
    ),
)
