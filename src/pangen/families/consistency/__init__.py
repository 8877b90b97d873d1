"""Models that undo noise in one step."""

from pangen.entry import IMAGES, Entry

MODELS = (
    Entry(
        "consistency",
        "consistency",
        "pangen.families.consistency.consistency:Consistency",
        "from noise to data in one step: taught by a diffusion model, or from scratch",
        "Song et al. 2023; Song and Dhariwal 2024; Geng et al. 2024",
        (*IMAGES, "standardise", "columns", "waveform"),
        "none",
        "implicit density: the map from noise is not invertible in closed form",
        ("denoiser",),
        "1 to 4 steps",
        conditional=True,
        captions=True,
        showcase=True,
    ),
)
