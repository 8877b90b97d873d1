"""Sound as a spectrogram: what metrics set clips side by side by, and what they look like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

FRAME, HOP = 0.032, 0.008
"""Seconds of a frame, and from one to the next."""
BANDS, FRAMES = 24, 16
"""Of a clip in features, whatever its length."""
TOGETHER = 64
"""Clips of one length that are transformed at once."""
FLOOR = 1e-6
"""Power, of a full-scale sine about 1, that counts as silence."""


def power(clip: Tensor, rate: int) -> Tensor:
    """Power in each frequency and frame `(..., F, frames)` of clips `(..., T)`, by a Hann window."""
    width, hop = max(round(FRAME * rate), 2), max(round(HOP * rate), 1)
    window = torch.hann_window(width)
    centred = torch.nn.functional.pad(clip.float(), (width // 2, width - width // 2))
    frames = centred.unfold(-1, width, hop) * window
    return (torch.fft.rfft(frames).abs() * (2 / window.sum())).square().mT


def log_mel(clips: Sequence[Tensor], rate: int) -> Tensor:
    """Log-power in mel bands over FRAMES even parts of each clip, and its log-duration, all about 0 to 1 `(N, D)`."""
    bands = mel_bands(max(round(FRAME * rate), 2) // 2 + 1, rate)
    found, lengths = torch.empty(len(clips), BANDS * FRAMES + 1), torch.tensor([len(clip) for clip in clips])
    for n in lengths.unique().tolist():
        found[:, -1][lengths == n] = math.log(n / rate + 0.01)
        for index in (lengths == n).nonzero()[:, 0].split(TOGETHER):
            heard = power(torch.stack([clips[i] for i in index]), rate)
            mel = (bands @ heard + FLOOR).log() / -math.log(FLOOR) + 1
            found[index, :-1] = interpolate(mel, FRAMES, mode="linear").flatten(1)
    return found


@cache
def mel_bands(frequencies: int, rate: int) -> Tensor:
    """Triangles of equal width on the mel scale, 2595 lg(1 + f / 700 Hz) `(BANDS, frequencies)`; they add powers up."""
    mel = 2595 * (1 + torch.linspace(0, rate / 2, frequencies) / 700).log10()
    edges = torch.linspace(0, float(mel[-1]), BANDS + 2)[:, None]
    rise = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    return torch.minimum(rise, fall).clamp(min=0)


def spectrograms(clips: Sequence[Tensor], rate: int, *, columns: int = 4) -> Image.Image:
    """Clips side by side, on one scale of time: low frequencies below, loud dark."""
    shades = [
        ((power(clip, rate) + FLOOR).log() / math.log(FLOOR)).clamp(0, 1).flip(0).numpy() for clip in clips
    ]
    high, wide = shades[0].shape[0], max(shade.shape[1] for shade in shades)
    columns = min(columns, len(shades))
    sheet = np.ones((-(-len(shades) // columns) * (high + 4) - 4, columns * (wide + 4) - 4))
    for i, shade in enumerate(shades):
        top, left = i // columns * (high + 4), i % columns * (wide + 4)
        sheet[top : top + high, left : left + shade.shape[1]] = shade
    return Image.fromarray((sheet * 255).round().astype(np.uint8)).convert("RGB")
