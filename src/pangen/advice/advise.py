"""Two or three models for some data and some use: chosen by measurements, and by nothing where there are none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple, get_args

from pangen.advice.evidence import Row, measured_here, shipped, similar
from pangen.codecs import accepts
from pangen.data.dataset import Data
from pangen.data.given import as_data
from pangen.errors import PangenError, unknown
from pangen.evaluation.intervals import seeds_interval
from pangen.registry import Entry, entries

Use = Literal["sample", "density", "impute", "detect", "compress"]
USES: tuple[str, ...] = get_args(Use)
BUDGET = 60.0
SLACK = 1.5
"""How much longer than asked a training may have been and still count."""
NAMED = 3


class Measure(NamedTuple):
    """What a use is judged by."""

    name: str
    told: str
    sign: int
    """1: more is better."""


BITS = Measure("bits_per_dim", "bits/dim", -1)
MEASURES: dict[str, tuple[Measure, ...]] = {
    "sample": (Measure("frechet", "Fréchet distance", -1),),
    "density": (BITS, Measure("regret", "nats above the entropy", -1), Measure("nats", "nats", 1)),
    "compress": (BITS,),
}
"""What comparisons have that speaks of a use, in the order in which it is looked for."""
MEASURED = {"impute": "imputation", "detect": "detection"}
"""Uses that no comparison measures; a likelihood does not say how well they go."""


def advise(
    data: Any, use: Use = "sample", *, budget: float = BUDGET, ledgers: Iterable[str | Path] = ()
) -> dict[str, Any]:
    """Which models to take for data, and what that rests on.

    Args:
        data: a name, a path, a `Data` or an array.
        use: "sample", "density", "impute", "detect" or "compress".
        budget: seconds of training.
        ledgers: comparisons of your own, folders or `ledger.jsonl`, beside those that come with the package.

    Returns:
        `{data, facts, use, budget, able, measure, models, simple, enough, reason}`. A model has an `expected` value with
        its `interval`, on this data itself or, `relative_to` the best classical model, on similar data, and the
        `rests_on` it has. `simple` names a classical model that will do; `able` are all models that serve the use.

    Raises:
        PangenError: for any mistake in the above.
    """
    if use not in USES:
        raise unknown("use", use, USES, hint=f"known: {', '.join(USES)}.")
    if not budget > 0:
        raise PangenError(f"a budget of {budget:g} s is none; give seconds of training.")
    found = as_data(data)
    fitting = {name: e for name, e in entries().items() if accepts(e, found) and _serves(e, use)}
    rows = [
        row
        for row in (*shipped(), *measured_here(map(Path, ledgers)))
        if row.model in fitting and (_is_exact(fitting[row.model]) or (row.budget or 0) <= SLACK * budget)
    ]
    result: dict[str, Any] = {
        "data": found.name, "facts": _facts(found), "use": use, "budget": budget,
        "able": list(fitting), "measure": None, "models": [], "simple": None, "enough": False,
    }  # fmt: skip
    for measure in MEASURES.get(use, ()):
        mine = [row for row in rows if row.measure == measure.name]
        own = [row for row in mine if row.fingerprint == found.fingerprint]
        if own:
            return {**result, "measure": measure.told, **_direct(own, measure)}
        if alike := _gains([row for row in mine if similar(row, found)], measure):
            return {**result, "measure": measure.told, **_indirect(alike, measure)}
    reason = f"no comparison has measured this on data like '{found.name}' within {budget:g} s"
    if use in MEASURED:
        reason = f"no comparison measures {MEASURED[use]}"
    return {**result, "reason": reason}


def _serves(entry: Entry, use: str) -> bool:
    can = entry.capabilities
    match use:
        case "sample":
            return entry.samples
        case "impute":
            return "marginal" in can or "masked" in can
        case "compress":
            return "next_token" in can or "posterior" in can  # symbol by symbol, or bits back
        case _:
            return entry.density != "none"


def _is_exact(entry: Entry) -> bool:
    """Whether it has no training that a budget could cut."""
    return "closed_form" in entry.capabilities


def _facts(data: Data) -> dict[str, Any]:
    return {
        "modality": data.modality,
        "shape": list(data.shape),
        "levels": data.levels,
        "labels": len(data.labels),
        "train": len(data.train),
    }


def _latest(rows: Sequence[Row]) -> dict[str, Row]:
    """Of each model the row with the longest training that is within the budget, and the most seeds."""
    ordered = sorted(rows, key=lambda row: (row.budget or 0.0, len(row.values)))
    return {row.model: row for row in ordered}


def _direct(rows: Sequence[Row], measure: Measure) -> dict[str, Any]:
    """From measurements on the data itself."""
    best = sorted(_latest(rows).values(), key=lambda row: -measure.sign * row.mean)
    models = [_told(row.model, row.mean, row.interval, [row]) for row in best]
    seeds = min((len(row.values) for row in best[:NAMED]), default=0)
    reason = "measured on this data itself"
    if seeds < 2:
        reason += " once only: one seed has no interval"
    elif len(models) < 2:
        reason += ", but one model alone"
    enough = seeds >= 2 and len(models) >= 2
    return {
        "models": models[:NAMED], "simple": _simple(models, measure.sign), "enough": enough, "reason": reason,
    }  # fmt: skip


def _gains(rows: Sequence[Row], measure: Measure) -> dict[str, list[tuple[float, Row]]]:
    """What each model has over the best classical one, a number for each data set where both were measured."""
    gains: dict[str, list[tuple[float, Row]]] = {}
    for fingerprint in dict.fromkeys(row.fingerprint for row in rows):
        there = _latest([row for row in rows if row.fingerprint == fingerprint])
        simple = [row for row in there.values() if entries()[row.model].family == "classical"]
        if not simple:
            continue
        reference = max(simple, key=lambda row: measure.sign * row.mean)
        for row in there.values():
            gains.setdefault(row.model, []).append((row.mean - reference.mean, row))
    return gains


def _indirect(gains: dict[str, list[tuple[float, Row]]], measure: Measure) -> dict[str, Any]:
    """From measurements on similar data."""
    models = []
    for name, found in gains.items():
        differences = [gain for gain, _ in found]
        interval = seeds_interval(differences)
        if interval is None and (own := found[0][1].interval) is not None:
            shift = differences[0] - found[0][1].mean
            interval = [own[0] + shift, own[1] + shift]
        models.append(
            _told(name, fmean(differences), interval, [row for _, row in found])
            | {"relative_to": "the best classical model"}
        )
    models.sort(key=lambda one: -measure.sign * one["expected"])
    sets = min((len(gains[one["model"]]) for one in models[:NAMED]), default=0)
    names = ", ".join(dict.fromkeys(row.data for found in gains.values() for _, row in found))
    reason = f"measured on similar data: {names}"
    enough = sets >= 2 and len(models) >= 2
    if not enough:
        reason += "; one data set says little about another"
    return {
        "models": models[:NAMED], "simple": _simple(models, measure.sign), "enough": enough, "reason": reason,
    }  # fmt: skip


def _told(
    name: str, expected: float, interval: Sequence[float] | None, rows: Sequence[Row]
) -> dict[str, Any]:
    return {
        "model": name,
        "family": entries()[name].family,
        "expected": expected,
        "interval": None if interval is None else list(interval),
        "seeds": sum(len(row.values) for row in rows),
        "trained": rows[0].budget if not _is_exact(entries()[name]) else None,
        "rests_on": [row.source for row in rows],
    }


def _simple(models: Sequence[dict[str, Any]], sign: int) -> str | None:
    """The best classical model, where the best of all is no better by more than the intervals."""
    classical = next((one for one in models if one["family"] == "classical"), None)
    if classical is None or not models:
        return None
    best = models[0]
    if classical is best:
        return classical["model"]
    reach = [sign * end for one in (classical,) for end in (one["interval"] or [one["expected"]])]
    least = [sign * end for end in (best["interval"] or [best["expected"]])]
    return classical["model"] if max(reach) >= min(least) else None
