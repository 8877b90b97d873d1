"""Generators trained against a critic."""

from pangen.entry import IMAGES, Entry

IMPLICIT = "implicit density: the generator gives samples, not probabilities"

MODELS = (
    Entry(
        "gan",
        "adversarial",
        "pangen.families.adversarial.gan:GAN",
        "generative adversarial network with any game: non-saturating, hinge, Wasserstein ...",
        "Goodfellow et al. 2014; Mescheder et al. 2018",
        (*IMAGES, "standardise"),
        "none",
        IMPLICIT,
        ("critic", "latent"),
        conditional=True,
        showcase=True,
    ),
    Entry(
        "dcgan",
        "adversarial",
        "pangen.families.adversarial.dcgan:DCGAN",
        "deep convolutional GAN with batch normalisation, the classical layers",
        "Radford et al. 2016",
        IMAGES,
        "none",
        IMPLICIT,
        ("critic", "latent"),
        conditional=True,
    ),
    Entry(
        "r3gan",
        "adversarial",
        "pangen.families.adversarial.r3gan:R3GAN",
        "relativistic pairs with R1 and R2 on a modern residual network",
        "Huang et al. 2024",
        (*IMAGES, "standardise"),
        "none",
        IMPLICIT,
        ("critic", "latent"),
        conditional=True,
    ),
    Entry(
        "stylegan",
        "adversarial",
        "pangen.families.adversarial.stylegan:StyleGAN",
        "codes that set the scale of every layer's channels; alias-free on request",
        "Karras et al. 2019, 2020b, 2021",
        IMAGES,
        "none",
        IMPLICIT,
        ("critic", "latent"),
        conditional=True,
    ),
)
