"""Models that undo noise in one step."""

from pangen.entry import IMAGES, Entry

MODELS = (
    Entry(
        "consistency",
        "consistency",
        "pangen.families.consistency.consistency:Consistency",
        "consistency training from scratch: noise to data in one step",
        "Song et al. 2023; Song and Dhariwal 2024",
        (*IMAGES, "standardise"),
        "none",
        "implicit density: the map from noise is not invertible in closed form",
        ("denoiser",),
        "1 to 4 steps",
        conditional=True,
        showcase=True,
    ),
)
