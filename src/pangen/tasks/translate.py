"""Texts that answer to others, the likeliest that a beam finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from pangen.capabilities import HasNextToken
from pangen.errors import PangenError
from pangen.rng import whole
from pangen.run import Run, as_run
from pangen.samplers.beam import Beam

TOGETHER = 32
"""Texts that are translated at once."""


def translate(
    run: Run | str | Path, texts: str | Sequence[str], *, beam: int = 4, penalty: float = 0.6
) -> str | list[str]:
    """The translation of a text, or a list of them; an empty text has an empty one.

    Args:
        run: of a model of texts that answer to others, or its folder.
        texts: one, or several.
        beam: beginnings that are kept at once; 1 takes the likeliest token each time.
        penalty: of length, see `Beam`.

    Raises:
        PangenError: the run answers to no texts, or one of these is too long for it.
    """
    run, search = with_pairs(run), Beam(beam, penalty)
    if isinstance(texts, str):
        return translate(run, [texts], beam=beam, penalty=penalty)[0]
    written = [i for i, text in enumerate(texts) if text.strip()]
    y = run.codec.encode_condition(tuple(texts[i] for i in written)) if written else None
    found, space, model = [""] * len(texts), run.codec.space, cast("HasNextToken", run.model)
    for start in range(0, len(written), TOGETHER):
        part = cast("Tensor", y)[whole(start, TOGETHER, len(written))].to(run.model.device)
        with run.computing(), torch.no_grad():
            x, _ = search(model, TOGETHER, space.dims, part, end=cast("int", space.end), device=part.device)
        for i, text in zip(written[start:], run.codec.decode(x), strict=False):
            found[i] = text
    return found


def with_pairs(run: Run | str | Path) -> Run:
    """A run whose model answers to texts, or the sentence that says what does."""
    run = as_run(run)
    if not run.answers or not isinstance(run.model, HasNextToken):
        raise PangenError(f"this {run.entry.name} does not answer to texts; take a run of seq2seq.")
    return run
