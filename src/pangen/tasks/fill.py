"""Gaps in a text, and what may stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, cast

import torch

from pangen.capabilities import HasMasked
from pangen.codecs import Text
from pangen.codecs.text import Characters
from pangen.errors import PangenError
from pangen.rng import generator
from pangen.run import Run, as_run
from pangen.samplers.mask_predict import MaskPredict

GAPS = {True: re.compile("_"), False: re.compile(" ?_+")}
"""A gap in a text of characters, each one; and of words, where any number of signs in a row and the blank before are one."""


class Candidate(NamedTuple):
    """What may stand in a gap, and its probability given the text, other gaps being open."""

    text: str
    probability: float


class Filled(NamedTuple):
    """The text with its gaps filled in, and for each gap its best candidates."""

    text: str
    gaps: list[list[Candidate]]


def fill(run: Run | str | Path, text: str, n: int = 5) -> Filled:
    """What may stand in the gaps of a text.

    Args:
        run: of a model that predicts masked tokens of text, or its folder.
        text: with a gap, one token, wherever there is `_` in characters, or `___`, of any length, in words.
        n: candidates for each gap.

    The gaps are filled in round after round, the surest first (mask-predict at temperature 0).

    Raises:
        PangenError: the run fills in no text, or the text has no gap or is too long.
    """
    run = with_masks(run)
    if n < 1:
        raise PangenError(f"cannot give {n} candidates; ask for at least 1.")
    codec, space, device = cast("Text", run.codec), run.codec.data_space, run.model.device
    parts = GAPS[isinstance(codec, Characters)].split(text)
    if len(parts) == 1:
        raise PangenError("the text has no gap to fill in: write ___ for a word, or _ for a character.")
    tokens: list[int] = []
    places = []
    for i, part in enumerate(parts):
        if i:
            places.append(len(tokens))
            tokens.append(0)
        tokens += codec.tokens(part)
    if len(tokens) > (room := space.dims - codec.lines):
        raise PangenError(
            f"the text has {len(tokens)} tokens and this {run.entry.name} takes {room}; shorten it."
        )
    x = torch.full((1, space.dims), codec.symbols, device=device)  # of lines their end, of windows padding
    x[0, : len(tokens)] = torch.tensor(tokens)
    missing = torch.zeros_like(x, dtype=torch.bool)
    missing[0, places] = True
    model = cast("HasMasked", run.model)
    rounds = MaskPredict(len(places), temperature=0)(model, x, missing, generator=generator(device, "fill"))
    with run.computing(), torch.no_grad():
        p, index = model.masked_logits(x, missing)[0, places].softmax(-1).topk(min(n, codec.symbols))
        *_, x = rounds
    gaps = [
        [Candidate(codec.text([token]), float(share)) for token, share in zip(*row, strict=True)]
        for row in zip(index.tolist(), p.tolist(), strict=True)
    ]
    return Filled(codec.text(x[0, : len(tokens)].tolist()), gaps)


def with_masks(run: Run | str | Path) -> Run:
    """A run whose model fills in text, or the sentence that says what does."""
    run = as_run(run)
    if not isinstance(run.codec, Text) or not isinstance(run.model, HasMasked):
        raise PangenError(
            f"this {run.entry.name} fills in no text; take a run of bert or masked-diffusion on text."
        )
    return run
