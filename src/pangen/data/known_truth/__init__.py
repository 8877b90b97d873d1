"""Sets whose law is known: exact density and entropy, so that a model's distance from it can be told."""

from __future__ import annotations

from collections.abc import Callable

from pangen.data.dataset import Data
from pangen.data.known_truth.binary import BarsAndStripes, Ising
from pangen.data.known_truth.brackets import Brackets
from pangen.data.known_truth.grey import Templates, Texture
from pangen.data.known_truth.hidden import HiddenMarkovText
from pangen.data.known_truth.law import Law
from pangen.data.known_truth.markov import MarkovText
from pangen.data.known_truth.plane import Checkerboard, GaussianMixture, Moons
from pangen.data.known_truth.series import AR2, ARMA
from pangen.data.known_truth.sound import Tones
from pangen.data.known_truth.tables import Network

KNOWN_TRUTH: dict[str, Callable[[], Law]] = {
    "moons": Moons,
    "gaussians8": GaussianMixture.ring,
    "gaussians25": GaussianMixture.grid,
    "checkerboard": Checkerboard,
    "bars-and-stripes": BarsAndStripes,
    "ising4x4": Ising,
    "templates": Templates,
    "texture": Texture,
    "markov-text": MarkovText,
    "hidden-markov-text": HiddenMarkovText,
    "brackets": Brackets,
    "ar2": AR2,
    "arma": ARMA,
    "tones": Tones.three_pitches,
    "coloured-noise": Tones.silence,
    "orchard": Network.orchard,
    "survey": Network.survey,
}
"""The law behind each name."""


def known_truth_data(name: str) -> Data:
    """The fixed splits of a known-truth set: 50 000 / 10 000 / 10 000 examples, or pieces of one path."""
    return KNOWN_TRUTH[name]().data(name)


__all__ = ["KNOWN_TRUTH", "Law", "known_truth_data"]
