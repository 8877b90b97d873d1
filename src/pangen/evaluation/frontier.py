"""Quality against cost: each run and sampler at several numbers of network evaluations."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import count, takewhile
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, cast

from pangen.capabilities import HasDenoiser
from pangen.errors import PangenError, unknown
from pangen.evaluation.comparison import machine
from pangen.evaluation.cost import sample_timed
from pangen.evaluation.features import Lent
from pangen.evaluation.judge import Judge
from pangen.evaluation.kind import data_of
from pangen.evaluation.stage import Report, Stage
from pangen.files import make_folder, write_json, write_text
from pangen.run import Run, as_run
from pangen.samplers.choice import SAMPLERS
from pangen.samplers.denoise import Sampler

NFE = (1, 2, 4, 8, 16, 32, 64)
USUAL = ("heun", "dpmpp", "ddim")
RESULT, PLOT = "frontier.json", "frontier.svg"
OWN = "its own"


class Way(NamedTuple):
    """A sampler that takes a number of steps."""

    sampler: str
    make: Callable[[int], Sampler]
    how: dict[str, Any]
    """What `Run.sample` is told beside the steps."""
    each: int
    """Passes through the network for an evaluation: two under guidance."""


def frontier(
    runs: Run | str | Path | Sequence[Run | str | Path],
    *,
    nfe: Sequence[int] = NFE,
    samplers: Sequence[str] = USUAL,
    out: str | Path | None = None,
    guidance: float = 1.0,
    samples: int | None = None,
    features: Lent | None = None,
    seed: int = 0,
    report: Report | None = None,
) -> dict[str, Any]:
    """What each further evaluation of the network buys.

    Args:
        runs: runs or their folders, of the same data. Diffusion models are sampled by each sampler, a consistency
            model in steps of its own, and any other model as it always is.
        nfe: network evaluations for a sample. A sampler takes the most steps that need no more.
        samplers: names, such as heun, dpmpp and ddim.
        out: a folder for `frontier.json` and `frontier.svg`.
        guidance: weight of the class, of runs that were trained with labels; other than 1 it costs two passes for each
            evaluation of a sampler, and both count.
        samples: how many are drawn for each point; None: as many as `evaluate` draws.
        features: what lends the features in which samples are set against real data, as in `evaluate`.
        seed: decides samples and resampling.
        report: called with a `Stage` before and after every point.

    Returns:
        `{data, points, left_out, floor, ...}`: of each point the run, sampler, steps, evaluations as they were
        counted, Fréchet distance with its interval, and seconds for 1000 samples; `floor` is that distance of real data.

    Raises:
        PangenError: for any mistake in the above, before anything is drawn.
    """
    asked = sorted(set(nfe))
    if not asked or asked[0] < 1:
        raise PangenError("network evaluations are whole numbers from 1; ask for some, such as 1,2,4,8.")
    for name in samplers:
        if name not in SAMPLERS:
            raise unknown("sampler", name, SAMPLERS)
    found = [as_run(run) for run in ([runs] if isinstance(runs, Run | str | Path) else runs)]
    if not found or not samplers:
        raise PangenError("a frontier needs at least one run and one sampler.")
    data = data_of(found[0])
    for run in found:
        if run.recipe.data.fingerprint != data.fingerprint:
            raise PangenError(
                f"{_name(run)} was trained on '{run.recipe.data.name}' and {_name(found[0])} on '{data.name}'; "
                "only runs of the same data have a common measure."
            )
        if not run.entry.samples:
            raise PangenError(f"{run.entry.name} cannot be sampled; leave {_name(run)} out.")
    folder = make_folder(Path(out)) if out is not None else None
    points: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    plan = [point for run in found for point in _plan(run, asked, samplers, guidance, left_out)]
    tell = report or (lambda stage: None)
    tell(Stage("yardstick", 0, len(plan), "evaluating"))
    judge = Judge(data, seed=seed, samples=samples, features=features)
    for i, (run, facts, how) in enumerate(plan):
        stage = partial(
            Stage, f"{facts['run']} {facts['sampler']} {facts['steps'] or ''}".strip(), i, len(plan)
        )
        tell(stage("evaluating"))
        try:
            points.append({**facts, **_measured(run, judge, how)})
        except PangenError as error:
            left_out.append({**facts, "why": str(error)})
            tell(stage(f"failed: {error}"))
        else:
            tell(stage("done"))
    result = {
        "data": data.name,
        "points": points,
        "left_out": left_out,
        "floor": judge.frechet(judge.held_out.x, judge.held_out.y),
        "guidance": guidance,
        "protocol": judge.protocol(),
        "machine": machine(),
        "command": _command(found, asked, samplers, guidance, seed, out),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if folder is not None:
        write_json(folder / RESULT, result)
        write_text(folder / PLOT, plot(result))
    return result


def _measured(run: Run, judge: Judge, how: dict[str, Any]) -> dict[str, Any]:
    y = run.conditions(judge.samples, seed=judge.seed)
    x, cost = sample_timed(run, judge.samples, y, seed=judge.seed, **how)
    return {
        "evaluations": cost["network_evaluations"],
        "frechet": judge.frechet(x, y),
        "sample_seconds_per_1000": cost["sample_seconds_per_1000"],
    }


def _plan(
    run: Run, asked: Sequence[int], samplers: Sequence[str], guidance: float, left_out: list[dict[str, Any]]
) -> Iterator[tuple[Run, dict[str, Any], dict[str, Any]]]:
    """What is known of each point beforehand, and what `Run.sample` is told; adds what there cannot be."""
    about = {"run": _name(run), "model": run.entry.name, "family": run.entry.family}

    def leave(sampler: str, why: str, **facts: int) -> None:
        left_out.append({**about, "sampler": sampler, **facts, "why": why})

    known = inspect.signature(type(run.model).trajectory).parameters
    if guidance != 1 and ("guidance" not in known or run.codec.condition is None):
        leave(OWN, "has no guidance: it was trained without labels, or has no sampler that takes it")
        return
    if "steps" not in known or not isinstance(run.model, HasDenoiser):
        yield run, {**about, "sampler": OWN, "steps": None}, {}
        return
    for way in _ways(run, samplers, guidance):
        taken = 0
        for evaluations in asked:
            try:
                steps = most_steps(way.make, evaluations // way.each)
            except PangenError as error:
                leave(way.sampler, str(error))
                break
            if steps == taken:
                why = "needs more" if not steps else f"{way.sampler} takes the same {steps} steps as before"
                leave(way.sampler, why, asked=evaluations)
                continue
            taken = steps
            yield (
                run,
                {**about, "sampler": way.sampler, "steps": steps, "asked": evaluations},
                {**way.how, "steps": steps},
            )


def _ways(run: Run, samplers: Sequence[str], guidance: float) -> Iterator[Way]:
    make: Callable[..., Sampler] = cast("Any", run.model).sampler  # which every `HasDenoiser` of ours has
    if "sampler" not in inspect.signature(type(run.model).trajectory).parameters:
        yield Way(OWN, lambda steps: make(steps=steps), {}, 1)
        return
    told, each = ({"guidance": guidance}, 2) if guidance != 1 else ({}, 1)
    for name in samplers:
        yield Way(name, partial(_made, make, name), {"sampler": name, **told}, each)


def _made(make: Callable[..., Sampler], name: str, steps: int) -> Sampler:
    return make(name, steps=steps)


def most_steps(make: Callable[[int], Sampler], evaluations: int) -> int:
    """The largest number of steps that takes at most so many evaluations; 0: there is none."""
    fits = takewhile(lambda steps: (make(steps).evaluations or inf) <= evaluations, count(1))
    return max(fits, default=0)


def plot(result: dict[str, Any]) -> str:
    """The distance against evaluations and against seconds, a line for each run and sampler, as SVG."""
    from pangen.evaluation.figures import Line, lines, standalone

    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for point in result["points"]:
        groups.setdefault((point["run"], point["sampler"]), []).append(point)
    drawn = [
        Line(
            f"{run}, {sampler}" if sampler != OWN else run,
            {
                "network evaluations": [p["evaluations"] for p in points],
                "seconds for 1000 samples": [p["sample_seconds_per_1000"] for p in points],
            },
            [p["frechet"]["value"] for p in points],
            [p["frechet"]["interval"] for p in points],
        )
        for (run, sampler), points in groups.items()
    ]
    return standalone(
        lines(drawn, result["floor"]["value"], "held-out real data", f"Fréchet distance, {result['data']}")
    )


def _name(run: Run) -> str:
    return str(run.path) if run.path is not None else run.entry.name


def _command(
    runs: Sequence[Run], nfe: Sequence[int], samplers: Sequence[str], guidance: float, seed: int, out: Any
) -> str:
    words = ["pangen", "frontier", *map(_name, runs), "--nfe", ",".join(map(str, nfe))]
    words += ["--samplers", ",".join(samplers)]
    words += ["--guidance", f"{guidance:g}"] if guidance != 1 else []
    words += ["--seed", str(seed)] if seed else []
    return shlex.join([*words, *(["-o", str(out)] if out is not None else [])])
