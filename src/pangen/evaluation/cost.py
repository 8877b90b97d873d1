"""What a run cost to train and what its samples cost to draw."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from pangen.model import GenerativeModel
from pangen.run import Run


class PeakMemory:
    """The most memory at once since it was made: of the accelerator in use, else of the whole process."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:
            Path("/proc/self/clear_refs").write_text("5")  # Linux: the process's peak starts anew
            self.known = True
        except OSError:
            self.known = False

    def megabytes(self) -> float | None:
        """None where the system does not tell."""
        if self.device.type == "cuda":
            return round(torch.cuda.max_memory_allocated(self.device) / 2**20, 1)
        if not self.known:
            return None
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
        return round(int(line.split()[1]) / 2**10, 1)


def sample_timed(run: Run, n: int, y: Any, *, seed: int = 0, **how: Any) -> tuple[Any, dict[str, Any]]:
    """`n` samples, and the seconds for 1000 and network evaluations for one."""
    with run.computing():
        evaluations = network_evaluations(run.model, **how)  # warms up as well
    began = time.perf_counter()
    samples = run.sample(n, y, seed=seed, **how)
    seconds = time.perf_counter() - began
    return samples, {
        "sample_seconds_per_1000": round(seconds / n * 1000, 4),
        "network_evaluations": evaluations,
    }


def network_evaluations(model: GenerativeModel, **how: Any) -> int:
    """Passes through the network that one chunk of samples takes: calls of its busiest layer.

    A model without layers (a table, an RBM's bare weights) counts the states of its trajectory
    beyond the first.
    """
    calls: dict[nn.Module, int] = {}
    layers = {m for m in model.modules() if next(m.parameters(recurse=False), None) is not None} - {model}

    def count(module: nn.Module, *_: Any) -> None:
        if module in layers:
            calls[module] = calls.get(module, 0) + 1

    generator = torch.Generator(model.device).manual_seed(0)
    y = model.space.no_condition(model.chunk, model.device)
    handle = register_module_forward_hook(count)
    states = 0
    try:
        trajectory = model.trajectory(model.chunk, y, generator=generator, **how)
        while True:
            with torch.no_grad():
                if next(trajectory, None) is None:
                    break
            states += 1
    finally:
        handle.remove()
    return max(calls.values(), default=states - 1)
