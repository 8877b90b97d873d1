"""Tasks of codes: raw data to codes and back, and the way from one example to another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pangen.capabilities import HasLatent
from pangen.codecs import LearnedCodec, Sound, Text
from pangen.errors import PangenError
from pangen.precision import precision
from pangen.rng import chunks, whole
from pangen.run import Run, as_run
from pangen.space import Space

Labels = int | str | Sequence[int] | Sequence[str] | Tensor | None
"""Of a run that was trained with labels: a class name or index for all examples, or an index for each; with texts
beside its examples: a text for all, or one for each."""


def encode(run: Run | str | Path, raw: Any, y: Labels = None) -> Tensor:
    """The codes `(N, *latent_space.shape)` of raw examples, means where the run has a distribution of them.

    Args:
        run: a `Run` or its folder.
        raw: examples `(N, *shape)` in the data's own units and levels, or a tuple of texts or clips.
        y: the label or text of all, or one for each, for a run that was trained with them.

    Raises:
        PangenError: the run has no codes, or the examples or labels do not fit it.
    """
    run = with_codes(run)
    raw = examples_of(run, raw)
    y = run.codec.encode_condition(labels_of(run, y, len(raw)))
    model, parts = run.model, []
    with run.computing(), torch.no_grad():
        for start, stop, noise in chunks(len(raw), model.chunk, "cpu", "encode"):
            index = whole(start, model.chunk, len(raw))
            part = raw[index] if isinstance(raw, Tensor) else tuple(raw[i] for i in index)
            x = run.codec.encode(part, generator=noise).x.to(model.device)
            z = cast("HasLatent", model).encode(x, None if y is None else y[index].to(model.device))
            parts.append(z[: stop - start].cpu())
    return torch.cat(parts)


def decode(run: Run | str | Path, z: Any, y: Labels = None) -> Any:
    """Raw examples from codes: the mean of x given z, as the data's own units and levels have it.

    Args:
        run: a `Run` or its folder.
        z: codes `(N, *latent_space.shape)`.
        y: as in `encode`.

    Raises:
        PangenError: the run has no codes, or these or the labels do not fit it.
    """
    run = with_codes(run)
    z = codes_of(run, z)
    y = run.codec.encode_condition(labels_of(run, y, len(z)))
    model, parts = run.model, []
    with run.computing(), torch.no_grad():
        for start in range(0, len(z), model.chunk):
            index = whole(start, model.chunk, len(z))
            told = None if y is None else y[index].to(model.device)
            x = cast("HasLatent", model).decode(z[index].to(model.device), told)
            parts.append(x[: len(z) - start])
        raw = run.codec.decode(torch.cat(parts))
    return raw.cpu() if isinstance(raw, Tensor) else raw


def reconstruct(run: Run | str | Path, raw: Any, y: Labels = None) -> Any:
    """What comes back of raw examples through their codes.

    Args:
        run: a `Run` or its folder.
        raw: examples `(N, *shape)`, as in `encode`; so is
        y: their labels or texts.

    Raises:
        PangenError: as `encode`.
    """
    run = with_codes(run)
    return decode(run, encode(run, raw, y), y)


def mean_squared_error(run: Run, raw: Any, again: Any) -> float:
    """Of raw examples beside others, over all their values: pixels as shares of white, numbers in their own units.

    Sound that has ended is silent.
    """
    if isinstance(run.codec.outer, Sound):
        both = pad_sequence([*raw, *again], batch_first=True)
        raw, again = both[: len(raw)], both[len(raw) :]
    unit = max(getattr(run.codec.outer, "levels", 0) - 1, 1)
    return float(((again.double() - raw.double()) / unit).square().mean())


def interpolate(run: Run | str | Path, a: Any, b: Any, n: int = 8, y: Labels = None) -> Any:
    """`n` raw examples on the model's own way from the code of `a` to that of `b`, both ends among them.

    Args:
        run: a `Run` or its folder.
        a: one raw example `(*shape)` or `(1, *shape)`; so is
        b: the other.
        n: examples, at least 2.
        y: the label of both, or one for each: then it changes half way.

    Raises:
        PangenError: as `encode`, and where `n` is below 2.
    """
    run = with_codes(run)
    if n < 2:
        raise PangenError(f"a way of {n} examples has no two ends; ask for at least 2.")
    ends = [examples_of(run, one) for one in (_alone(run, a), _alone(run, b))]
    y = labels_of(run, y, 2)
    z = [encode(run, end, None if y is None else y[i : i + 1]) for i, end in enumerate(ends)]
    t = torch.linspace(0, 1, n, dtype=torch.float64)
    device = run.model.device
    with run.computing(), torch.no_grad():
        pair = [end.expand(n, *end.shape[1:]).to(device) for end in z]
        t_ = t.to(torch.get_default_dtype()).to(device)
        way = cast("HasLatent", run.model).interpolate(pair[0], pair[1], t_)
    late = (t > 0.5).int().tolist()
    labels: Any = None if y is None else [y[i] for i in late]
    return decode(run, way, labels)


def with_codes(run: Run | str | Path) -> Run:
    """A run whose model has codes, or the sentence that says where to find some."""
    run = as_run(run)
    if isinstance(run.model, HasLatent):
        return run
    if isinstance(run.codec, LearnedCodec):
        raise PangenError(
            f"this {run.entry.name} is a model of codes and has none of its own; take its first stage, {run.codec.run}."
        )
    raise PangenError(
        f"{run.entry.name} has no codes; take a run of vae, ae, vqvae or a flow such as realnvp."
    )


def labels_of(run: Run, y: Labels, n: int) -> Tensor | tuple[str, ...] | None:
    """Class indices `(n,)` for a run with labels, which it needs, and n texts for one with texts; None for one without."""
    if run.answers and y is None:
        raise PangenError(
            f"this {run.entry.name} was trained with texts, and its codes need them: give one with --given, or y."
        )
    if run.codec.labels and y is None:
        raise PangenError(
            f"this {run.entry.name} was trained with labels, and its codes need them: give one of "
            f"{', '.join(run.codec.labels)} with --given, or y."
        )
    if isinstance(y, Tensor | Sequence) and not isinstance(y, str) and len(y) != n:
        raise PangenError(f"{len(y)} labels do not fit {n} examples; give one for each.")
    return run.conditions(n, y)


def examples_of(run: Run, raw: Any) -> Any:
    """Raw examples as the run's codec reads them, checked."""
    codec, name = run.codec.outer, run.entry.name
    if isinstance(codec, Text):
        if isinstance(raw, str) or not all(isinstance(text, str) for text in raw):
            raise PangenError(f"this {name} takes text: give a list of strings.")
        return tuple(raw)
    if isinstance(codec, Sound):
        return _clips(raw, name)
    space = codec.data_space
    x = _tensor(raw)
    if x.shape[1:] != space.shape or not len(x):
        raise PangenError(f"this {name} takes examples (N, {_listed(space.shape)}), not {tuple(x.shape)}.")
    if not x.isfinite().all():
        raise PangenError(f"this {name} takes finite numbers, and some of these are not.")
    levels = getattr(codec, "levels", 0)
    if not levels:
        return x.float()
    if not ((x >= 0) & (x < levels) & (x == x.round())).all():
        raise PangenError(f"this {name} takes pixels that are whole numbers 0 to {levels - 1}.")
    return x.to(torch.uint8)


def _clips(raw: Any, name: str) -> tuple[Tensor, ...]:
    """NaN stands behind a clip's end, as in an array of several."""
    clips = tuple(clip[~clip.isnan()] for clip in map(_tensor, raw) if clip.dim() == 1)
    if not clips or len(clips) < len(raw) or not all((clip.abs() <= 1).all() for clip in clips):
        raise PangenError(f"this {name} takes clips (T,) of numbers from -1 to 1.")
    return tuple(clip.float() for clip in clips)


def codes_of(run: Run, z: Any) -> Tensor:
    """Codes as the run's model reads them, checked."""
    space, name = cast("HasLatent", run.model).latent_space, run.entry.name
    z = _tensor(z)
    if z.shape[1:] != space.shape or not len(z):
        raise PangenError(f"codes of this {name} are (N, {_listed(space.shape)}), not {tuple(z.shape)}.")
    return _tokens(z, space, name) if space.kind == "tokens" else _numbers(z, run)


def _tokens(z: Tensor, space: Space, name: str) -> Tensor:
    if z.is_floating_point() or not ((z >= 0) & (z < space.levels)).all():
        raise PangenError(f"codes of this {name} are whole numbers 0 to {space.levels - 1}.")
    return z.long()


def _numbers(z: Tensor, run: Run) -> Tensor:
    if not z.isfinite().all():
        raise PangenError(f"codes of this {run.entry.name} are finite numbers, and some of these are not.")
    with precision(run.recipe.dtype):
        return z.to(torch.get_default_dtype())


def _alone(run: Run, x: Any) -> Any:
    """One example as a batch of one."""
    if isinstance(x, str):
        return (x,)
    if isinstance(x, tuple | list) and all(isinstance(text, str) for text in x):
        return x
    sound = isinstance(run.codec.outer, Sound)
    x = x if isinstance(x, tuple | list) and sound else _tensor(x)
    if not isinstance(x, tuple | list) and x.dim() == (1 if sound else len(run.codec.outer.data_space.shape)):
        x = x[None]
    if len(x) != 1:
        raise PangenError(f"a way has one example at each end, not {len(x)}.")
    return x


def _tensor(x: Any) -> Tensor:
    try:
        return x if isinstance(x, Tensor) else torch.from_numpy(np.asarray(x))
    except (TypeError, ValueError):
        raise PangenError("examples and codes are arrays of numbers; these are not.") from None


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
