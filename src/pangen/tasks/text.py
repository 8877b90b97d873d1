"""Text that goes on where a prompt ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from pangen.capabilities import HasNextToken
from pangen.codecs import Text
from pangen.codecs.text import Characters
from pangen.errors import PangenError
from pangen.rng import chunks, generator
from pangen.run import Given, Run, as_run
from pangen.samplers.tokens import NextToken, Step

TOGETHER = 8
"""Texts that are drawn at once."""


class Completion(NamedTuple):
    """What follows a prompt, and log p of it given the prompt, under the model as it is, of its tokens."""

    text: str
    nats: float
    tokens: int
    """An end of a line counted."""


def complete(
    run: Run | str | Path,
    prompt: str = "",
    n: int = 1,
    *,
    length: int = 0,
    given: Given = None,
    seed: int = 0,
    **how: Any,
) -> list[Completion]:
    """`n` texts that follow a prompt; the i-th is a function of (seed, i) alone.

    Args:
        run: of a model that predicts the next token of text, or its folder.
        prompt: the text to go on from; empty: from nothing. Of one that is longer than the model's context
            the last half of a context is kept.
        n: texts.
        length: tokens of each at most; 0: as many as the context has. A line ends earlier. Where the context is
            full, its last half is kept and the model goes on from there.
        given: a class name or index, or one for each text, for a run with labels.
        seed: decides what is drawn.
        how: settings of `NextToken`: temperature, top_k, top_p, repetition.

    Raises:
        PangenError: the run predicts no text, or the prompt, a label or a setting does not fit it.
    """
    run = with_text(run)
    if n < 1:
        raise PangenError(f"cannot draw {n} texts; ask for at least 1.")
    y, found = run.conditions(n, given, seed=seed), []
    codec, end = cast("Text", run.codec), run.codec.data_space.end
    for start, stop, noise in chunks(n, TOGETHER, run.model.device, "sample", seed):
        steps = list(_steps(run, prompt, None if y is None else y[start:stop], length, noise, how))
        tokens = torch.stack([step.token for step in steps], 1)
        nats = torch.stack([_nats(step) for step in steps], 1)
        for mine, each in zip(tokens[: stop - start].tolist(), nats, strict=False):
            count = mine.index(end) + 1 if end in mine else len(mine)
            text = codec.text([token for token in mine[:count] if token != end])
            found.append(Completion(text, float(each[:count].sum()), count))
    return found


def stream(
    run: Run | str | Path,
    prompt: str = "",
    *,
    length: int = 0,
    given: Given = None,
    seed: int = 0,
    **how: Any,
) -> Iterator[str]:
    """The first text of `complete`, piece by piece as it is drawn; a piece is one character at least.

    Args:
        run: of a model that predicts the next token of text, or its folder.
        prompt: the text to go on from.
        length: tokens at most; 0: as many as the context has.
        given: a class name or index, for a run with labels.
        seed: decides what is drawn.
        how: settings of `NextToken`.

    Raises:
        PangenError: as `complete`.
    """
    run = with_text(run)
    noise = generator(run.model.device, "sample", seed, 0)
    tokens: list[int] = []
    text, told = "", 0
    for step in _steps(run, prompt, run.conditions(1, given, seed=seed), length, noise, how):
        token = int(step.token[0])
        if token == run.codec.data_space.end:
            break
        tokens.append(token)
        text = cast("Text", run.codec).text(tokens)
        ready = len(text.rstrip("\ufffd"))  # which may be the first bytes of a character
        if ready > told:
            yield text[told:ready]
            told = ready
    if len(text) > told:
        yield text[told:]


def with_text(run: Run | str | Path) -> Run:
    """A run whose model goes on from a text, or the sentence that says what does."""
    run = as_run(run)
    if run.answers:
        raise PangenError(f"this {run.entry.name} answers to texts; ask it with `pangen translate`.")
    if not isinstance(run.codec, Text) or not isinstance(run.model, HasNextToken):
        why = "was not trained on text" if not isinstance(run.codec, Text) else "predicts no next token"
        raise PangenError(f"this {run.entry.name} {why}; take a run of gpt, rnn or ngram on text.")
    return run


def read_prompt(run: Run, prompt: str) -> list[int]:
    """The tokens of a prompt, all of them."""
    codec = cast("Text", run.codec)
    strange = codec.unknown(prompt) if isinstance(codec, Characters) else None
    if strange is not None:
        raise PangenError(
            f"the prompt has the character {strange!r}, which the training text has not; leave it out, or fit a "
            "model with --codec bytes, which knows every character."
        )
    return codec.tokens(prompt)


def kept(run: Run, tokens: Sequence[int]) -> Sequence[int]:
    """What the model sees of a prompt: all that leaves room for a token, or the last half of its context."""
    context = cast("Text", run.codec).context
    return tokens if len(tokens) < context else tokens[len(tokens) - context // 2 :]


def _steps(
    run: Run, prompt: str, y: Tensor | None, length: int, noise: torch.Generator, how: dict[str, Any]
) -> Iterator[Step]:
    """The tokens of one chunk of texts."""
    if length < 0:
        raise PangenError(f"a text of {length} tokens cannot be; 0 is the length of the model's context.")
    codec, device = cast("Text", run.codec), run.model.device
    tokens = torch.tensor(kept(run, read_prompt(run, prompt)), dtype=torch.long, device=device)
    condition = codec.space.filled(y, TOGETHER, device)
    steps = NextToken(**how).stream(
        cast("HasNextToken", run.model), TOGETHER, length or codec.context, condition, prompt=tokens, context=codec.context,
        end=codec.data_space.end, device=device, generator=noise,
    )  # fmt: skip
    while True:
        with run.computing(), torch.no_grad():  # never held open across a yield
            step = next(steps, None)
        if step is None:
            return
        yield step


def _nats(step: Step) -> Tensor:
    return step.logits.double().log_softmax(-1).gather(1, step.token[:, None])[:, 0]
