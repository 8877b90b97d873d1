"""Pictures of examples: grids of images, scatter plots of vectors, strips of text."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SIDE = 48
"""Small images are enlarged, by whole numbers, until their shorter side has about this many pixels."""
GAP = 2
PAPER = 255


def picture(raw: Any, levels: int = 0) -> Image.Image:
    """A picture of raw examples, as `Split.x` holds them."""
    if not isinstance(raw, Tensor):
        return strip(raw)
    if raw.ndim == 3:
        from pangen.evaluation.series import lines

        return lines(raw)
    return grid(raw, levels) if raw.ndim == 4 else scatter(raw)


def grid(images: Tensor, levels: int, *, columns: int | None = None, scale: int | None = None) -> Image.Image:
    """Images uint8 `(N, C, H, W)` in {0 .. levels - 1}, side by side.

    Three channels are colours; of any other number the first is shown. `scale` repeats pixels.
    """
    n, channels, height, width = images.shape
    columns = columns or max(min(n, round(math.sqrt(n * 1.6))), 1)
    rows = math.ceil(n / columns)
    scale = scale or max(round(SIDE / min(height, width)), 1)
    shown = images if channels == 3 else images[:, :1].expand(-1, 3, -1, -1)
    pixels = (shown.float() * (255 / max(levels - 1, 1))).round().clamp(0, 255).to(torch.uint8)
    pixels = pixels.repeat_interleave(scale, 2).repeat_interleave(scale, 3).permute(0, 2, 3, 1).cpu()
    high, wide = height * scale + GAP, width * scale + GAP
    sheet = np.full((rows * high - GAP, columns * wide - GAP, 3), PAPER, dtype=np.uint8)
    for i, image in enumerate(pixels.numpy()):
        top, left = i // columns * high, i % columns * wide
        sheet[top : top + height * scale, left : left + width * scale] = image
    return Image.fromarray(sheet)


def scatter(points: Tensor, *, limits: tuple[float, float, float, float] | None = None) -> Image.Image:
    """Vectors `(N, D)`: a histogram for D = 1, the first two coordinates otherwise.

    `limits`: left, right, bottom, top.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    x = points.detach().cpu().double().numpy()
    left, right, bottom, top = limits or (0, 1, 0, 1)
    height = min(max(3.2 * (top - bottom) / (right - left), 1.2), 4.8) + 0.2
    figure = Figure(figsize=(3.4, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    if x.shape[1] == 1:
        axes.hist(x[:, 0], bins=60, color="#33506b")
    else:
        axes.scatter(x[:, 0], x[:, 1], s=max(0.5, min(8.0, 4000 / len(x))), color="#33506b", alpha=0.5, lw=0)
        axes.set_aspect("equal", adjustable="box")
    if limits:
        axes.set(xlim=limits[:2], ylim=limits[2:])
    axes.tick_params(labelsize=6, length=2, color="#999999", labelcolor="#777777")
    for spine in axes.spines.values():
        spine.set_color("#cccccc")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def strip(texts: tuple[str, ...], *, width: int = 72) -> Image.Image:
    """Texts one under another, each cut to a few lines."""
    font = ImageFont.load_default(15)
    lines: list[str] = []
    for text in texts:
        flat = "".join(c if c.isprintable() else "\u00b6" if c == "\n" else " " for c in text)
        pieces = [flat[i : i + width] for i in range(0, max(len(flat), 1), width)]
        lines += [*pieces[:3], ""]
    lines = lines[:-1] or [""]
    long = max(font.getlength(line) for line in lines)
    sheet = Image.new("RGB", (int(long) + 24, 20 * len(lines) + 20), (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    for i, line in enumerate(lines):
        pen.text((12, 10 + 20 * i), line, font=font, fill=(40, 40, 40))
    return sheet


def png(image: Image.Image) -> bytes:
    """The image as a PNG file's content."""
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return file.getvalue()
