"""What follows a series: paths drawn from a run, given the past."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from pangen.capabilities import HasForecast, HasNextToken
from pangen.codecs import Windows
from pangen.data.dataset import SPLITS, Data
from pangen.data.series import Series
from pangen.errors import PangenError
from pangen.evaluation.forecast import covered, crps, quantile
from pangen.evaluation.intervals import mean_interval
from pangen.evaluation.kind import check_kind, data_of
from pangen.rng import chunks
from pangen.run import Run, as_run
from pangen.samplers.tokens import NextToken

PATHS = 512
"""Drawn if nothing else is asked for: the ends of a 95 % interval then have a dozen paths beyond them."""
INTERVALS = (0.8, 0.9, 0.95)
"""Whose coverage is measured."""


def forecast(
    run: Run | str | Path, past: Tensor | None = None, *, horizon: int, paths: int = PATHS, seed: int = 0
) -> Tensor:
    """Paths `(paths, C, horizon)` of what follows a series, in its units; the i-th depends on (seed, i) alone.

    Args:
        run: a `Run` or its folder.
        past: the series so far `(C, t)`, of which the run sees as much as its window has room for beside the
            horizon; None: all of its own data.
        horizon: steps.
        paths: how many.
        seed: decides them.

    Raises:
        PangenError: the run is no model of series, or its window has no room for the horizon.
    """
    run = with_series(run)
    if paths < 2:
        raise PangenError(f"{paths} paths have no spread; ask for at least 2.")
    codec, model, room = run.codec, run.model, room_for(run, horizon)
    columns = codec.raw_shape[0]
    past = cast("Series", data_of(run).series).values if past is None else past
    if past.ndim != 2 or len(past) != columns or not past.shape[1] or not past.isfinite().all():
        raise PangenError(
            f"this {run.entry.name} continues finite numbers ({columns}, t), not {tuple(past.shape)}."
        )
    seen, drawn = past[None, :, -room:], []
    with run.computing(), torch.inference_mode():
        x = codec.encode(seen).x.to(model.device)
        for start, stop, generator in chunks(paths, model.chunk, model.device, "forecast", seed):
            if isinstance(model, HasForecast):
                found = model.follow(x.expand(model.chunk, -1, -1), horizon, generator=generator)
            else:
                steps = NextToken().stream(
                    cast("HasNextToken", model),
                    model.chunk,
                    columns * horizon,
                    prompt=x[0],
                    device=model.device,
                    generator=generator,
                )
                found = torch.stack([step.token for step in steps], 1)
            drawn.append(codec.decode(found, generator=generator)[: stop - start].cpu())
    return torch.cat(drawn)


def with_series(run: Run | str | Path) -> Run:
    """A run whose model can continue a series, or the sentence that says why it cannot."""
    run = as_run(run)
    if not isinstance(run.codec, Windows):
        raise PangenError(
            f"this {run.entry.name} is no model of a series; fit one with `pangen fit arima FILE.csv --series --window N`."
        )
    if not isinstance(run.model, HasForecast | HasNextToken):
        raise PangenError(
            f"{run.entry.name} draws whole windows and cannot continue one; take arima, gpt, rnn or seasonal-naive."
        )
    return run


def room_for(run: Run, horizon: int) -> int:
    """Steps of the past beside the horizon in a window."""
    window = cast("Windows", run.codec).window
    if not 1 <= horizon < window:
        raise PangenError(
            f"a horizon of {horizon} does not fit: this {run.entry.name} was fitted on windows of {window} steps, past and "
            f"future together; take 1 to {window - 1}, or fit it with a longer --window."
        )
    return window - horizon


def score_forecasts(
    run: Run | str | Path,
    data: Data | None = None,
    *,
    horizon: int,
    every: int | None = None,
    split: str = "test",
    paths: int = PATHS,
    seed: int = 0,
) -> dict[str, Any]:
    """Forecasts from one origin after another of a split, each from the past before it, as one JSON-able object.

    Args:
        run: a `Run` or its folder.
        data: another series than the run's own.
        horizon: steps ahead.
        every: steps between origins; None: the horizon.
        split: train, validation or test; the past of its first origins lies before it.
        paths: of each forecast.
        seed: decides them.

    Raises:
        PangenError: the run forecasts no series, or the data, the split or the horizon does not fit it.
    """
    run = with_series(run)
    found = data_of(run) if data is None else data
    check_kind(run, found)
    found.split(split)  # or there is none
    series = cast("Series", found.series)
    values, ends = series.values, (0, *series.ends)
    start, stop = ends[SPLITS.index(split)], ends[SPLITS.index(split) + 1]
    origins = range(max(start, room_for(run, horizon)), stop - horizon + 1, every or horizon)
    if len(origins) < 2:
        raise PangenError(
            f"the {split} split of '{found.name}' has no two origins with {horizon} steps after them."
        )
    scores: dict[str, list[Tensor]] = {}
    for origin in origins:
        drawn = forecast(run, values[:, :origin], horizon=horizon, paths=paths, seed=seed)
        y = values[:, origin : origin + horizon]
        each = {"crps": crps(drawn, y), "mae": (quantile(drawn, 0.5) - y).abs()}
        each |= {f"coverage_{round(100 * level)}": covered(drawn, y, level).double() for level in INTERVALS}
        for name, score in each.items():
            scores.setdefault(name, []).append(score.mean())
    return {
        "model": run.entry.name,
        "data": found.name,
        "split": split,
        "horizon": horizon,
        "origins": len(origins),
        "paths": paths,
        **{
            name: {
                "value": float(torch.stack(each).mean()),
                "interval": mean_interval(torch.stack(each), name, seed),
            }
            for name, each in scores.items()
        },
    }
