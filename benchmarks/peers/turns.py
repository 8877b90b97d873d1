"""Two sides that take turns, and what their times say."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from ledger import record
from timing import around_the_median

from peers.pair import Pair, Side


def finished() -> float:
    """Seconds of the wall, once an accelerator has done all it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


CLOCKS = {"wall": finished, "processor": time.process_time}


class Turn:
    """Calls of one side's work, clocked until the turn's seconds are over."""

    def __init__(self, side: Side, seconds: float, clock: Callable[[], float]) -> None:
        took, self.found = [], []
        while sum(took) < seconds:
            began = clock()
            self.found.append(side.work())
            took.append(clock() - began)
        self.seconds = side.times * statistics.median(took)
        self.loss = side.loss() if side.loss else None

    def mean_loss(self) -> float:
        return statistics.fmean(map(float, self.found)) if self.loss is None else self.loss


def compare(pair: Pair, count: int, seconds: float, timer: str, device: str = "cpu") -> list[float] | None:
    """Their time over ours, turn by turn; None where the two sides do not do the same."""
    torch.manual_seed(0)
    began, clock = time.perf_counter(), CLOCKS[timer]
    with torch.device(device):
        sides = pair.ours(), pair.theirs()
    off = sides[1].parameters / sides[0].parameters - 1
    if abs(off) > pair.apart:
        print(f"{pair.name}: no result, theirs has {off:+.1%} of our {sides[0].parameters} parameters.")
        return None
    first = [Turn(side, seconds, clock) for side in sides]  # warms up
    turns = []
    for i in range(count):
        order = (0, 1) if i % 2 == 0 else (1, 0)
        turn = {side: Turn(sides[side], seconds, clock) for side in order}
        turns.append((turn[0], turn[1]))
    if wrong := difference(pair, first, turns):
        print(f"{pair.name}: no result, {wrong}.")
        return None
    ratios = [theirs.seconds / ours.seconds for ours, theirs in turns]
    ours, theirs = (statistics.median(turn[i].seconds for turn in turns) for i in (0, 1))
    low, high = around_the_median(ratios)
    record(
        "peers", ratios, model=pair.model, work=pair.work, peer=str(pair.peer), precision=pair.precision, **pair.facts,
        median=round(statistics.median(ratios), 3), median_low=round(low, 3), median_high=round(high, 3),
        ours_ms=round(1e3 * ours, 4), theirs_ms=round(1e3 * theirs, 4), clock=timer, device=device,
        parameters=sides[0].parameters, their_parameters=sides[1].parameters,
        metric="their time over ours, one value a pair", seconds=time.perf_counter() - began,
    )  # fmt: skip
    print(f"  median {statistics.median(ratios):.2f} [{low:.2f}, {high:.2f}]", flush=True)
    return ratios


def difference(pair: Pair, first: Sequence[Turn], turns: Sequence[tuple[Turn, Turn]]) -> str:
    """In what the two sides did not do the same; empty where they did."""
    if pair.work == "training":
        for i, who in enumerate(("ours", "theirs")):
            before, after = first[i].mean_loss(), turns[-1][i].mean_loss()
            if not math.isfinite(after) or (pair.falls and after >= before):
                return f"{who} went from a loss of {before:.4g} to {after:.4g}"
        return ""
    shapes = [tuple(turn.found[0].shape) for turn in first]
    return "" if shapes[0] == shapes[1] else f"ours has the shape {shapes[0]} and theirs {shapes[1]}"
