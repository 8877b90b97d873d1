"""Every model by name: torch-free facts, so that listing them is instant.

Adding a model is one `Entry`. The conformance suite proves each fact true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Literal

from pangen.errors import PangenError, unknown

if TYPE_CHECKING:
    from pangen.model import GenerativeModel

Density = Literal["exact", "lower bound", "estimate", "none"]

CODEC_SPACES = {
    "binary": ("binary images",),
    "grid": ("binary images", "grey and colour images"),
    "levels": ("binary images", "grey and colour images"),
    "dequantise": ("binary images", "grey and colour images"),
    "standardise": ("vectors",),
    "characters": ("text",),
}
"""What each codec accepts, in a user's words."""


@dataclass(frozen=True)
class Entry:
    """One model's capability card."""

    name: str
    family: str
    target: str
    """Where the class is: "module:Class"."""
    summary: str
    paper: str
    codecs: tuple[str, ...]
    """Codecs it works behind, the preferred first."""
    density: Density
    reason: str = ""
    """Why there is no density, or when it is weaker than `density` says."""
    capabilities: tuple[str, ...] = ()
    """Names from `capabilities.CAPABILITIES`."""
    sampling: str = "1 pass"
    """Network evaluations for a sample."""
    samples: bool = True
    """False: it cannot be sampled on its own, and says why."""
    conditional: bool = False
    """Whether it can be conditioned on a class."""
    chains: bool = False
    """Whether samples are the ends of Markov chains, which may not have mixed."""
    showcase: bool = False
    """Whether `compare` takes it unasked."""

    @property
    def spaces(self) -> tuple[str, ...]:
        """The kinds of data it accepts, in a user's words."""
        return tuple(dict.fromkeys(s for codec in self.codecs for s in CODEC_SPACES[codec]))

    def load(self) -> type[GenerativeModel]:
        """Import the class."""
        module, _, attribute = self.target.partition(":")
        return getattr(import_module(module), attribute)


IMAGES = ("binary", "grid")
TAXONOMY = {
    "exact": "explicit density, exact",
    "lower bound": "explicit density, approximate",
    "estimate": "explicit density, approximate",
    "none": "implicit density",
}

_ENTRIES = (
    Entry(
        "independent",
        "classical",
        "pangen.families.classical.independent:Independent",
        "a histogram for each dimension; with labels it is naive Bayes",
        "Maron 1961",
        ("binary", "levels", "standardise"),
        "exact",
        capabilities=("log_prob", "closed_form"),
        conditional=True,
        showcase=True,
    ),
    Entry(
        "mixture",
        "classical",
        "pangen.families.classical.mixture:Mixture",
        "a mixture of Gaussians, fitted by expectation maximisation",
        "Dempster et al. 1977",
        ("dequantise", "standardise"),
        "exact",
        capabilities=("log_prob", "closed_form"),
        conditional=True,
        showcase=True,
    ),
    Entry(
        "kde",
        "classical",
        "pangen.families.classical.kde:KDE",
        "a Gaussian kernel on each training example",
        "Parzen 1962",
        ("dequantise", "standardise"),
        "exact",
        capabilities=("log_prob", "closed_form"),
        conditional=True,
        showcase=True,
    ),
    Entry(
        "ngram",
        "classical",
        "pangen.families.classical.ngram:NGram",
        "counts of short contexts, interpolated",
        "Kneser and Ney 1995",
        ("characters", "levels"),
        "exact",
        capabilities=("log_prob", "next_token", "closed_form"),
        sampling="1 table look-up a token",
        showcase=True,
    ),
    Entry(
        "rbm",
        "energy",
        "pangen.families.energy.rbm:RBM",
        "restricted Boltzmann machine, trained by (persistent) contrastive divergence; a classifier too",
        "Hinton 2002; Tieleman 2008",
        ("binary", "grid", "levels", "standardise"),
        "estimate",
        "exact when visible or hidden units can be enumerated, annealed importance sampling otherwise",
        ("log_prob", "energy", "partition", "classifier"),
        "1000 Gibbs sweeps",
        conditional=True,
        chains=True,
        showcase=True,
    ),
    Entry(
        "boltzmann",
        "energy",
        "pangen.families.energy.boltzmann:Boltzmann",
        "Boltzmann machine: binary units, visible and hidden, each joined to every other",
        "Ackley et al. 1985",
        ("binary",),
        "estimate",
        "exact up to 24 units, annealed importance sampling beyond",
        ("log_prob", "energy", "partition"),
        "exact draws up to 20 units, 200 Gibbs sweeps beyond",
        chains=True,
    ),
    Entry(
        "ebm",
        "energy",
        "pangen.families.energy.ebm:EBM",
        "deep energy-based model, trained by persistent Langevin chains or score matching; a classifier too",
        "Du and Mordatch 2019; Nijkamp et al. 2019; Grathwohl et al. 2020; Vincent 2011",
        ("standardise", "grid"),
        "estimate",
        "log Z is estimated: in up to three dimensions well, beyond them by the pessimistic end of annealing",
        ("log_prob", "energy", "partition", "classifier"),
        "200 Langevin steps",
        conditional=True,
        chains=True,
    ),
    Entry(
        "dbm",
        "energy",
        "pangen.families.energy.dbm:DBM",
        "deep Boltzmann machine, layer by layer and then all together; three hidden layers",
        "Salakhutdinov and Hinton 2009",
        IMAGES,
        "estimate",
        "a mean-field bound less an annealed estimate of log Z, its pessimistic end taken",
        ("log_prob", "partition"),
        "1000 Gibbs sweeps",
        chains=True,
    ),
    Entry(
        "ae",
        "latent",
        "pangen.families.latent.ae:Autoencoder",
        "autoencoder: a code to reconstruct from",
        "Rumelhart et al. 1986; Hinton and Salakhutdinov 2006",
        (*IMAGES, "standardise"),
        "none",
        "a reconstruction is not a probability",
        ("latent",),
        "none: no distribution over codes",
        samples=False,
    ),
    Entry(
        "vae",
        "latent",
        "pangen.families.latent.vae:VAE",
        "variational autoencoder",
        "Kingma and Welling 2014",
        (*IMAGES, "standardise"),
        "lower bound",
        "",
        ("log_prob", "latent"),
        conditional=True,
        showcase=True,
    ),
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
    Entry(
        "nice",
        "flow",
        "pangen.families.flow.nice:NICE",
        "additive couplings, volume preserving, one diagonal scale",
        "Dinh et al. 2015",
        ("dequantise", "standardise", "grid"),
        "exact",
        "but a lower bound on a grid of grey levels, whose cells it fills with noise itself",
        ("log_prob", "latent"),
        conditional=True,
        showcase=True,
    ),
    Entry(
        "realnvp",
        "flow",
        "pangen.families.flow.realnvp:RealNVP",
        "affine couplings with alternating masks",
        "Dinh et al. 2017",
        ("dequantise", "standardise", "grid"),
        "exact",
        "but a lower bound on a grid of grey levels, whose cells it fills with noise itself",
        ("log_prob", "latent"),
        conditional=True,
        showcase=True,
    ),
    Entry(
        "glow",
        "flow",
        "pangen.families.flow.glow:Glow",
        "affine couplings between learnt rotations of the channels, multi-scale",
        "Kingma and Dhariwal 2018",
        ("dequantise", "standardise", "grid"),
        "exact",
        "but a lower bound on a grid of grey levels, whose cells it fills with noise itself",
        ("log_prob", "latent"),
        conditional=True,
    ),
    Entry(
        "ffjord",
        "flow",
        "pangen.families.flow.ffjord:FFJORD",
        "continuous flow: noise is carried to data along a learnt vector field",
        "Grathwohl et al. 2019; Chen et al. 2018",
        ("standardise", "dequantise"),
        "estimate",
        "exact up to the solver's tolerance in up to 8 dimensions, Hutchinson's estimate beyond",
        ("log_prob", "latent"),
        "1 adaptive solve, some 50 to 200 passes",
        conditional=True,
    ),
    Entry(
        "tarflow",
        "flow",
        "pangen.families.flow.tarflow:TarFlow",
        "causal Transformers over patches, in alternating directions",
        "Zhai et al. 2024",
        ("dequantise", "standardise"),
        "exact",
        "",
        ("log_prob", "latent"),
        "1 cached pass a patch and block",
        conditional=True,
    ),
    Entry(
        "maf",
        "flow",
        "pangen.families.flow.maf:MAF",
        "masked autoregressive flow: MADEs of Gaussians, one upon the other",
        "Papamakarios et al. 2017",
        ("standardise", "dequantise"),
        "exact",
        capabilities=("log_prob", "latent"),
        sampling="1 step a dimension, together 1 pass of work",
        conditional=True,
    ),
    Entry(
        "iaf",
        "flow",
        "pangen.families.flow.iaf:IAF",
        "inverse autoregressive flow: samples in one pass, learns one dimension after the other",
        "Kingma et al. 2016",
        ("standardise",),
        "exact",
        capabilities=("log_prob", "latent"),
        sampling="1 pass; a likelihood 1 step a dimension",
        conditional=True,
    ),
    Entry(
        "nsf",
        "flow",
        "pangen.families.flow.nsf:NSF",
        "neural spline flow: rational-quadratic splines, autoregressive or in couplings",
        "Durkan et al. 2019",
        ("standardise", "dequantise"),
        "exact",
        capabilities=("log_prob", "latent"),
        sampling="1 step a dimension, together 1 pass of work; couplings 1 pass",
        conditional=True,
    ),
    Entry(
        "made",
        "autoregressive",
        "pangen.families.autoregressive.made:MADE",
        "masked autoencoder: one network, every conditional",
        "Germain et al. 2015",
        ("binary", "levels"),
        "exact",
        "",
        ("log_prob",),
        "1 pass a dimension",
        conditional=True,
        showcase=True,
    ),
    Entry(
        "gpt",
        "autoregressive",
        "pangen.families.autoregressive.gpt:GPT",
        "decoder-only Transformer over characters, or pixels as tokens",
        "Radford et al. 2018",
        ("characters", "levels"),
        "exact",
        "",
        ("log_prob", "next_token"),
        "1 cached pass a token",
        conditional=True,
        showcase=True,
    ),
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


@cache
def entries() -> Mapping[str, Entry]:
    """All models, ours and those installed packages offer in the group "pangen.models"."""
    found = {entry.name: entry for entry in _ENTRIES}
    for point in entry_points(group="pangen.models"):
        entry = point.load()
        if not isinstance(entry, Entry):
            raise PangenError(f"the entry point '{point.name}' ({point.value}) is no pangen.registry.Entry.")
        found[entry.name] = entry
    return found


def get(name: str) -> Entry:
    """The entry of a model, or an error that suggests the nearest name."""
    if name not in entries():
        raise unknown("model", name, entries(), hint="`pangen models` lists them.")
    return entries()[name]
