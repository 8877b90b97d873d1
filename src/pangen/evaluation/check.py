"""Is a trained model what it claims to be: does it add up to 1, undo itself, and know its own volume?

A check is a function of a `Subject` that returns what it found, or raises `NotChecked` with the
reason. Each asks for what the model can do, not for its family; a new one is one entry in `CHECKS`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from pangen.capabilities import HasLatent, HasLogProb
from pangen.data.dataset import Data
from pangen.data.given import as_data
from pangen.errors import PangenError
from pangen.evaluation.judge import pick
from pangen.evaluation.kind import check_kind, data_of
from pangen.model import GenerativeModel
from pangen.networks.bijections import BaseDensity
from pangen.precision import Precision, precision
from pangen.rng import generator
from pangen.run import Run, as_run
from pangen.samplers.units import every_state
from pangen.space import LogProb, Space

EXAMPLES = 256
"""Held-out examples that are encoded and decoded."""
JACOBIANS, DIMS = 4, 256
"""Examples whose Jacobian is computed, and dimensions up to which it is."""
STATES = 2**16
"""Values of x that are enumerated at most."""
INTERVALS = 200
"""Of the quadrature, on each axis; even, so that every other point is a rule of its own."""
AT_ONCE = 4096
"""Rows given to a model together."""


class NotChecked(Exception):  # noqa: N818 - says why, and is no error
    """A check that does not apply, with the reason."""


@dataclass(frozen=True)
class Subject:
    """A run, and held-out data to check it on."""

    run: Run
    data: Data
    seed: int = 0

    @cached_property
    def held_out(self) -> tuple[Tensor, Tensor | None]:
        """Encoded test examples in float64, and their labels."""
        raw, y = pick(self.data.test, EXAMPLES)
        with precision("float64"):
            x = self.run.codec.encode(raw, generator=generator("cpu", "check", self.seed)).x
        return x.to(self.run.model.device), self.run.codec.encode_condition(y)

    def bijection(self, dtype: Precision) -> tuple[Any, Tensor, Tensor | None]:
        """What maps x to z and back under a base density, in that precision; and x and labels for it."""
        if not isinstance(self.run.model, HasLatent):
            raise NotChecked("it has no code to map to and back from")
        model = copy.deepcopy(self.run.model).to(getattr(torch, dtype)).requires_grad_(False)
        flow = getattr(model, "flow", model)
        if not isinstance(getattr(flow, "base", None), BaseDensity):
            raise NotChecked("it is no bijection between data and a base density")
        x, y = self.held_out
        dequantiser = getattr(model, "dequantiser", None)
        x = x.to(getattr(torch, dtype))
        return flow, x if dequantiser is None else dequantiser.middle(x), y


def normalisation(subject: Subject) -> dict[str, Any]:
    """The sum, or the integral, of p over all there is; without label where the model takes one."""
    model, space = subject.run.model, subject.run.codec.space
    if not isinstance(model, HasLogProb):
        raise NotChecked(f"{subject.run.entry.name} has no likelihood")
    if space.kind == "real" and not space.is_grid:
        return _integral(subject, model, space)
    if space.levels**space.dims > STATES:
        raise NotChecked(f"{space.levels}^{space.dims} values are more than the {STATES} that are enumerated")
    states = _states(space).to(model.device)
    nats, kind = _nats(model, states)
    return {"total": float(nats.exp().sum()), "kind": kind, "by": "enumeration", "points": len(states)}


def _integral(subject: Subject, model: GenerativeModel, space: Space) -> dict[str, Any]:
    """By the trapezoid rule over a box about samples and data, at all points and at every other."""
    if space.dims > 2 or len(space.shape) > 1:
        raise NotChecked(f"{space.dims} dimensions are too many for quadrature, which takes at most 2")
    about = [subject.held_out[0].to(torch.get_default_dtype())]
    if subject.run.entry.samples:
        about.append(model.sample(1024, seed=subject.seed))
    low, high = torch.cat(about).aminmax(dim=0)
    width = high - low
    axes = [
        torch.linspace(a, b, INTERVALS + 1, device=model.device)
        for a, b in zip((low - width / 4).tolist(), (high + width / 4).tolist(), strict=True)
    ]
    nats, kind = _nats(cast("HasLogProb", model), torch.cartesian_prod(*axes).view(-1, space.dims))
    p = nats.exp().view(*[INTERVALS + 1] * space.dims)
    cell = float((1.5 * width.double() / INTERVALS).prod())
    coarse = p[tuple([slice(None, None, 2)] * space.dims)]
    return {
        "total": float(p.sum() * cell),
        "coarse": float(coarse.sum() * cell * 2**space.dims),
        "kind": kind,
        "by": "quadrature",
        "points": p.numel(),
    }


def _states(space: Space) -> Tensor:
    """Every value of x; of sequences with an end, those that nothing but ends follows."""
    states = every_state(space.dims, space.levels, torch.zeros((), dtype=torch.long))
    if space.end is not None:
        ended = (states == space.end).long().cummax(1).values.bool()
        states = states[(~ended | (states == space.end)).all(1)]
    if space.kind != "tokens":
        states = states.to(torch.get_default_dtype())
    if space.is_grid:
        states = states * (2 / (space.levels - 1)) - 1
    return states.view(-1, *space.shape)


def _nats(model: HasLogProb, x: Tensor) -> tuple[Tensor, str]:
    """log p of each row in float64 on the CPU, and its kind."""
    found: list[LogProb] = []
    for part in x.split(AT_ONCE):
        with torch.no_grad():
            found.append(model.log_prob(part, generator=generator(x.device, "check", len(found))))
    return torch.cat([f.nats.double().cpu() for f in found]), found[0].kind


def invertibility(subject: Subject) -> dict[str, Any]:
    """How far decode(encode(x)) is from x, in units of the model's own space."""
    errors = {}
    for dtype in ("float32", "float64"):
        flow, x, y = subject.bijection(dtype)
        with precision(dtype), torch.no_grad():
            gaps = [
                (flow.decode(flow.encode(a, b), b) - a).abs().flatten(1).amax(1)
                for a, b in _parts(x, y, subject.run.model.chunk)
            ]
        gap = torch.cat(gaps)
        errors[dtype] = {"largest": float(gap.max()), "median": float(gap.median())}
    return {**errors, "examples": len(x)}


def log_determinant(subject: Subject) -> dict[str, Any]:
    """The model's log|det dz/dx| beside that of autograd's Jacobian, in float64."""
    flow, x, y = subject.bijection("float64")
    dims = x[0].numel()
    if dims > DIMS:
        raise NotChecked(f"a Jacobian of {dims} dimensions is too large; {DIMS} are the most")
    errors = []
    with precision("float64"):
        for a, b in _parts(x[:JACOBIANS], None if y is None else y[:JACOBIANS], 1):
            found = flow.log_prob(a, b)
            if isinstance(found, LogProb):
                if found.kind != "exact":
                    raise NotChecked("the model's own is estimated")
                found = found.nats
            J = _jacobian(flow, a, b)
            z = flow.encode(a, b)
            expected = flow.base.log_prob(z.view(1, *a.shape[1:])) + torch.linalg.slogdet(J).logabsdet
            errors.append(float((found - expected).abs()))
    return {"largest": max(errors), "examples": len(errors), "dims": dims}


def _jacobian(flow: HasLatent, x: Tensor, y: Tensor | None) -> Tensor:
    def encode(v: Tensor) -> Tensor:
        return flow.encode(v.view_as(x), y)[0]

    return torch.autograd.functional.jacobian(encode, x.flatten())


def _parts(x: Tensor, y: Tensor | None, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    for i in range(0, len(x), size):
        yield x[i : i + size], None if y is None else y[i : i + size].to(x.device)


CHECKS: dict[str, Callable[[Subject], dict[str, Any]]] = {
    "normalisation": normalisation,
    "invertibility": invertibility,
    "log_determinant": log_determinant,
}


def check(run: Run | str | Path, data: Any = None, *, seed: int = 0) -> dict[str, Any]:
    """What a run promises about itself, measured: does p add up to 1, is a flow undone by its inverse,
    and is its log-determinant that of its Jacobian.

    Args:
        run: a `Run` or its folder.
        data: whose held-out examples are used, by name, path or value; None: the data of the training.
        seed: decides noise, and where samples fall.

    Returns:
        `{model, data, checks}`; a check that does not apply is `{"not checked": why}`.

    Raises:
        PangenError: when none applies, or the data is of another kind than the run's.
    """
    run = as_run(run)
    found = data_of(run) if data is None else as_data(data)
    check_kind(run, found)
    subject, checks = Subject(run, found, seed), {}
    with run.computing():
        for name, measure in CHECKS.items():
            try:
                checks[name] = measure(subject)
            except NotChecked as reason:
                checks[name] = {"not checked": str(reason)}
    if all("not checked" in result for result in checks.values()):
        reasons = "; ".join(dict.fromkeys(result["not checked"] for result in checks.values()))
        raise PangenError(f"there is nothing to check of this {run.entry.name}: {reasons}.")
    return {"model": run.entry.name, "data": found.name, "dtype": run.recipe.dtype, "checks": checks}
