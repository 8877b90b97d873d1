"""Models that undo noise step by step."""

from pangen.entry import IMAGES, Entry

MODELS = (
    Entry(
        "ddpm",
        "diffusion",
        "pangen.families.diffusion.ddpm:DDPM",
        "denoising diffusion, with ancestral and DDIM samplers",
        "Ho et al. 2020; Song et al. 2021",
        (*IMAGES, "standardise"),
        "lower bound",
        "",
        ("log_prob", "denoiser"),
        "50 steps",
        conditional=True,
        showcase=True,
    ),
)
