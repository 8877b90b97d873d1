"""Models that undo noise step by step."""

from pangen.entry import IMAGES, Entry

CODECS = (*IMAGES, "standardise")
ABLE = ("log_prob", "latent", "denoiser")
REASON = "exact up to the solver's tolerance in up to 8 dimensions, Hutchinson's estimate beyond"

MODELS = (
    Entry(
        "ddpm",
        "diffusion",
        "pangen.families.diffusion.ddpm:DDPM",
        "denoising diffusion: a chain of small steps, each a Gaussian",
        "Ho et al. 2020; Song et al. 2021",
        CODECS,
        "lower bound",
        "",
        ABLE,
        "50 steps",
        conditional=True,
        showcase=True,
    ),
    Entry(
        "edm",
        "diffusion",
        "pangen.families.diffusion.edm:EDM",
        "diffusion with every choice made anew, and Heun's method for samples",
        "Karras et al. 2022",
        CODECS,
        "estimate",
        REASON,
        ABLE,
        "18 steps, 35 passes",
        conditional=True,
    ),
    Entry(
        "score",
        "diffusion",
        "pangen.families.diffusion.score:Score",
        "the gradient of log p at every noise level, followed by a predictor and a corrector",
        "Song et al. 2021",
        CODECS,
        "estimate",
        REASON,
        ABLE,
        "100 steps, 199 passes",
        conditional=True,
    ),
    Entry(
        "flow-matching",
        "diffusion",
        "pangen.families.diffusion.flow_matching:FlowMatching",
        "straight lines from data to noise, and the velocity along them",
        "Lipman et al. 2023; Liu et al. 2023",
        CODECS,
        "estimate",
        REASON,
        ABLE,
        "18 steps, 35 passes",
        conditional=True,
    ),
)
