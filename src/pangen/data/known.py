"""Every data set that has a name: torch-free facts, so that listing them is instant."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pangen.errors import PangenError

if TYPE_CHECKING:
    from pangen.data.dataset import Data

HOME = "PANGEN_DATA"
DEFAULT_HOME = "~/.cache/pangen/data"

IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def data_home() -> Path:
    """The folder of local copies: what PANGEN_DATA says, or a place in the user's cache."""
    return Path(os.environ.get(HOME) or DEFAULT_HOME).expanduser()


@dataclass(frozen=True)
class Known:
    """One named data set."""

    name: str
    kind: Literal["images", "binary images", "vectors", "text", "pairs of texts", "series", "sound", "tables"]
    description: str
    source: Literal["embedded", "known truth", "files"]
    folder: str = ""
    """In `data_home()`, for a set whose source is files."""
    files: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    """Options of `load_data` that this set can take; its splits are fixed."""

    def paths(self) -> list[Path]:
        return [data_home() / self.folder / file for file in self.files]

    def missing(self) -> Path | None:
        """The first file that is looked for and not there."""
        return next((path for path in self.paths() if not path.is_file()), None)

    @property
    def where(self) -> str:
        """Where the set is found, in a user's words."""
        if self.source == "embedded":
            return "in the package"
        if self.source == "known truth":
            return "drawn from its law"
        missing = self.missing()
        return f"not found: looked for {missing}" if missing else str(data_home() / self.folder)

    def load(self, **options: Any) -> Data:
        """Its splits; a `PangenError` names the file that is missing."""
        missing = self.missing()
        if missing:
            raise PangenError(
                f"'{self.name}' is not found: there is no {missing}; put it there, or set {HOME} "
                f"to the folder that holds {self.folder}/{missing.name}."
            )
        module, function = _BUILDERS[self.source]
        return getattr(import_module(f"pangen.data.{module}"), function)(self.name, **options)


_BUILDERS = {
    "embedded": ("embedded", "embedded_data"),
    "known truth": ("known_truth", "known_truth_data"),
    "files": ("local", "local_data"),
}

_KNOWN = (
    Known("digits", "images", "1797 handwritten digits 8x8, 17 grey levels, 10 classes", "embedded"),
    Known("digits-binary", "binary images", "digits, a pixel being 1 from level 8 of 16 on", "embedded"),
    Known("stacked-digits", "images", "three digits as the colours of an image 8x8: 1000 modes", "embedded"),
    Known(
        "captioned-digits",
        "images",
        "digits, each with one of 60 captions such as 'a three'",
        "embedded",
    ),
    Known("moons", "vectors", "two half circles under Gaussian noise 0.05", "known truth"),
    Known("gaussians8", "vectors", "8 Gaussians on a circle, slightly overlapping", "known truth"),
    Known("gaussians25", "vectors", "25 narrow Gaussians on a 5x5 grid", "known truth"),
    Known("checkerboard", "vectors", "uniform on 8 of the 16 squares of [-4, 4]^2", "known truth"),
    Known("bars-and-stripes", "binary images", "4x4 images of full rows or full columns", "known truth"),
    Known("ising4x4", "binary images", "4x4 Ising lattice, beta 0.44, free boundary", "known truth"),
    Known("templates", "images", "four waves 6x6 with 8 levels, each pixel with noise", "known truth"),
    Known("texture", "images", "5x5 images with 4 levels whose neighbours are alike", "known truth"),
    Known(
        "markov-text", "text", "64 characters of a second-order Markov chain over 8 letters", "known truth"
    ),
    Known("hidden-markov-text", "text", "10 characters of 4, drawn in six hidden states", "known truth"),
    Known("brackets", "text", "16 balanced brackets of two kinds, any tree alike", "known truth"),
    Known("ar2", "series", "a second-order autoregression, in windows of 64 steps", "known truth"),
    Known("arma", "series", "a slow drift under noise, ARMA(1, 1), in windows of 64 steps", "known truth"),
    Known("tones", "sound", "64 samples of one of three pitches in coloured noise, 1 kHz", "known truth"),
    Known("coloured-noise", "sound", "64 samples of noise of the first order, 1 kHz", "known truth"),
    Known("orchard", "tables", "fruit: 2 categories, 3 numbers, one cell of twelve missing", "known truth"),
    Known("survey", "tables", "answers: 2 categories, 3 numbers, one cell of seven missing", "known truth"),
    Known(
        "mnist", "images", "handwritten digits 28x28, 10 classes, 50k/10k/10k", "files", "mnist", IDX_FILES
    ),
    Known(
        "mnist-binary-static",
        "binary images",
        "mnist, each pixel drawn once with probability value / 255 (our own draw)",
        "files",
        "mnist",
        IDX_FILES,
    ),
    Known(
        "mnist-binary-dynamic",
        "binary images",
        "mnist, training pixels drawn anew at each reading; held-out ones as in mnist-binary-static",
        "files",
        "mnist",
        IDX_FILES,
    ),
    Known(
        "fashion-mnist",
        "images",
        "pictures of clothes 28x28, 10 classes, 50k/10k/10k",
        "files",
        "fashion_mnist",
        IDX_FILES,
    ),
    Known(
        "cifar10-lossless-4k",
        "images",
        "4000 photographs 32x32 in colour, exact pixels, 10 classes, 3250/250/500",
        "files",
        "cifar10_lossless_4k",
        (*(f"cifar10_batch_{i}.png" for i in range(4)), "labels.npy"),
    ),
    Known(
        "olivetti-faces",
        "images",
        "faces of 40 people 64x64, ten of each, 280/40/80",
        "files",
        "olivetti_faces",
        ("olivettifaces.mat",),
    ),
    *(
        Known(
            f"uci-{name}",
            "vectors",
            f"{what}; the last column is the target",
            "files",
            "uci_regression",
            (f"{name}.csv.gz",),
        )
        for name, what in (
            ("protein", "45730 protein decoys, 10 columns"),
            ("kin40k", "40000 positions of a robot arm, 9 columns"),
            ("bike", "17379 hours of bicycle rental, 18 columns, most of few values"),
            ("pol", "15000 states of a telephone network, 27 columns, most of few values"),
        )
    ),
    *(
        Known(
            name, "pairs of texts", f"3 to 10 letters of 8, and the same {what}: 20k/500/1k pairs", "embedded"
        )
        for name, what in (("copying", "again"), ("reversal", "from behind"), ("sorting", "in order"))
    ),
    Known(
        "multi30k",
        "pairs of texts",
        "captions of photographs, German and English: 29000/1014/1000 pairs; test is that of 2016",
        "files",
        "multi30k",
        tuple(f"{part}.{side}.gz" for part in ("train", "val", "test_2016_flickr") for side in ("de", "en")),
    ),
    Known(
        "tinyshakespeare",
        "text",
        "plays by Shakespeare in windows of 64 characters; test is the last tenth",
        "files",
        "tinyshakespeare",
        ("input.txt",),
        ("window",),
    ),
    *(
        Known(
            name,
            "series",
            f"20 months of a transformer's oil temperature (and 6 loads), hourly, station {station}; 12/4/4 months",
            "files",
            "ett",
            (f"ETTh{station}.csv",),
            ("window", "column"),
        )
        for name, station in (("ett", 1), ("ett-h2", 2))
    ),
    Known(
        "fsdd",
        "sound",
        "3000 spoken digits at 8 kHz, 6 speakers, 10 classes, 2400/300/300 (test as published)",
        "files",
        "fsdd",
        ("recordings.zip",),
        ("seconds",),
    ),
)

KNOWN: dict[str, Known] = {known.name: known for known in _KNOWN}
"""Every data set by name."""


def catalogue() -> list[dict[str, str]]:
    """Name, kind, description of every known data set, and where it is found."""
    return [
        {"name": k.name, "kind": k.kind, "description": k.description, "where": k.where}
        for k in KNOWN.values()
    ]
