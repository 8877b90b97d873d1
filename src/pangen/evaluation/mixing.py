"""Have the chains that samples come from mixed: what a sampler that never ends would not show."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from pangen.capabilities import HasEnergy
from pangen.rng import generator
from pangen.run import Run
from pangen.samplers.diagnostics import judged

CHAINS, DRAWS, FEATURES = 16, 200, 8
"""Chains, at least four for each label; states kept of each; principal components watched."""
LIMIT = 1.1
"""R-hat above which chains have not mixed (Gelman and Rubin 1992)."""


def mixing_of(run: Run, *, seed: int = 0) -> dict[str, Any]:
    """The field `mixing`: of the second half of the chains that `sample` draws its samples from.

    Watched are the energy, where the model has one, and the first principal components of the
    states. With labels each label's chains are judged alone, and the worst label counts.
    """
    classes = max(len(run.codec.labels), 1)
    each = max(CHAINS // classes, 4)
    y = torch.arange(classes).repeat_interleave(each) if run.codec.labels else None
    model = run.model
    with run.computing(), torch.no_grad():
        draw = generator(model.device, "mixing", seed)
        y = None if y is None else y.to(model.device)
        states = [s.float() for s in model.trajectory(classes * each, y, generator=draw)]
        if len(states) < 4:
            return {"none": "samples are drawn exactly, without a chain"}
        states = states[len(states) // 2 :]
        moved = [(a != b).flatten(1).any(1) for a, b in pairwise(states)]
        kept = torch.stack(states[:: max(len(states) // DRAWS, 1)], 1)  # (chains, draws, *shape)
        flat = kept.flatten(2).double()
        watched = _components(flat)
        if isinstance(model, HasEnergy):
            rows = None if y is None else y.repeat_interleave(kept.shape[1])
            energy = model.energy(kept.flatten(0, 1).to(states[0]), rows).view(kept.shape[:2])
            watched = torch.cat([watched, energy[..., None].double()], 2)
    acceptance = float(torch.stack(moved).double().mean())
    found = [judged(group, acceptance) for group in watched.unflatten(0, (classes, each))]
    worst = max(one.r_hat for one in found)
    return {
        "acceptance": acceptance,
        "effective_sample_size": min(one.effective_sample_size for one in found),
        "r_hat": worst,
        "mixed": worst <= LIMIT,
        "chains": each,
        "draws": kept.shape[1],
    }


def _components(flat: torch.Tensor) -> torch.Tensor:
    """Coordinates `(chains, draws, k)` of states along their principal components."""
    centred = flat - flat.mean((0, 1))
    rows = centred.flatten(0, 1)
    _, _, directions = torch.linalg.svd(rows[:: len(rows) // 2000 + 1], full_matrices=False)
    return centred @ directions[:FEATURES].T
