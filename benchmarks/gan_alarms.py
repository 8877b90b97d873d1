"""Do the alarms ring when a game is sabotaged, and only then?

    python benchmarks/gan_alarms.py chosen    # the runs that thresholds were chosen on
    python benchmarks/gan_alarms.py scored    # others, and other seeds; thresholds were fixed before

Fifteen trainings that are broken in a known way and fifteen that are not. A run counts as alarmed if an alarm holds at
its end. Recorded: the share of broken runs that are alarmed (recall) and of healthy ones (false alarms).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from ledger import record

import pangen
from pangen.data import Data, Split
from pangen.families.adversarial.adversarial import Adversarial
from pangen.space import Loss
from pangen.training import loop


@dataclass(frozen=True)
class Case:
    """A training, and what is wrong with it."""

    model: str
    data: str
    seed: int
    fault: str = "none"
    fields: dict[str, Any] = field(default_factory=dict)


@contextmanager
def faster(player: str, times: float) -> Iterator[None]:
    """One player's rate is multiplied."""
    make = loop.make_optimizers

    def sabotaged(players: Any, settings: Any) -> Any:
        optimizers = make(players, settings)
        step = optimizers[player].step

        def stepped() -> None:
            for group in optimizers[player].param_groups:
                group["lr"] *= times
            step()

        optimizers[player].step = stepped
        return optimizers

    with patch.object(loop, "make_optimizers", sabotaged):
        yield


def method(name: str, change: Callable[..., Any]) -> Callable[[], Any]:
    """A method of all adversarial models, wrapped: `change` is given it, and what it was called with."""
    original = getattr(Adversarial, name)
    return lambda: patch.object(Adversarial, name, lambda self, *a, **k: change(original, self, *a, **k))


def frozen(original: Any, self: Any, *args: Any) -> Loss:
    return Loss(0 * original(self, *args).total)


def wrong_way(original: Any, self: Any, *args: Any) -> Loss:
    return Loss(-original(self, *args).total)


def constant(original: Any, self: Any, n: int, generator: Any = None) -> torch.Tensor:
    return 0 * original(self, n, generator)


def leaking(original: Any, self: Any, real: Any, fake: Any, y: Any, progress: Any) -> Loss:
    return original(self, real + 0.5, fake, y, progress)  # the reader shifts the real data, and nothing else


FAULTS: dict[str, Callable[[], Any]] = {
    "critic's rate x 50": lambda: faster("critic", 50),
    "generator's rate x 50": lambda: faster("generator", 50),
    "generator frozen": method("generator_loss", frozen),
    "generator's loss upside down": method("generator_loss", wrong_way),
    "noise of zeros": method("draw", constant),
    "real data shifted on the way": method("critic_loss", leaking),
}
"""By patching; the others are in the recipe or in the data."""


def one_image(data: Data) -> Data:
    return replace(data, train=Split(data.train.x[:1].expand(len(data.train), *data.shape).clone()))


def twenty_images(data: Data) -> Data:
    return replace(data, train=Split(data.train.x[:20].repeat(20, *[1] * len(data.shape))))


DATA_FAULTS = {"one image": one_image, "twenty images": twenty_images}
NO_PENALTY = {"model.r1": 0.0}
CASES: dict[str, tuple[list[Case], list[Case]]] = {
    "chosen": (
        [Case("gan", data, 100, fault) for data in ("digits", "gaussians8") for fault in FAULTS]
        + [
            Case("gan", "digits", 101, "one image"),
            Case("gan", "digits", 102, "no penalty, rate 0.05", {**NO_PENALTY, "training.lr": 0.05}),
            Case("gan", "digits", 103, "one number of noise", {"model.noise": 1}),
        ],
        [Case("gan", data, 110 + seed) for data in ("digits", "gaussians8", "moons") for seed in range(3)]
        + [Case("r3gan", data, 120 + seed) for data in ("digits", "gaussians8") for seed in range(3)],
    ),
    "scored": (
        [Case("r3gan", data, 0, fault) for data in ("moons", "digits") for fault in FAULTS]
        + [
            Case("r3gan", "digits", 1, "twenty images"),
            Case("gan", "moons", 2, "no penalty, rate 0.05", {**NO_PENALTY, "training.lr": 0.05}),
            Case("gan", "gaussians25", 3, "one image"),
        ],
        [Case("gan", data, 10 + seed, fields={"model.game": "hinge"}) for data in ("digits", "moons") for seed in range(3)]
        + [Case("r3gan", data, 20 + seed) for data in ("moons", "digits") for seed in range(3)]
        + [Case("gan", "gaussians8", 30 + seed, fields={"model.game": "relativistic"}) for seed in range(3)],
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("which", choices=CASES)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    broken, healthy = CASES[args.which]
    for name, cases in (("recall", broken), ("false alarms", healthy)):
        began, rang = time.perf_counter(), []
        for case in cases:
            said = alarms_of(case, args.steps)
            rang.append(bool(said))
            print(f"{case.model} {case.data} {case.seed} {case.fault}: {'; '.join(said) or '-'}", flush=True)
        record(
            "gan_alarms", [sum(rang) / len(rang)], which=args.which, runs=len(rang), steps=args.steps,
            metric=name, seconds=time.perf_counter() - began,
        )  # fmt: skip


def alarms_of(case: Case, steps: int) -> list[str]:
    """The first words of each alarm that holds at the end of a training; also of one that had to stop."""
    data = pangen.load_data(case.data)
    data = DATA_FAULTS.get(case.fault, lambda unchanged: unchanged)(data)
    sabotage = FAULTS.get(case.fault, nullcontext)
    fields = {"training.validations": 20, "training.validation_examples": 500, **case.fields}
    try:
        with sabotage():
            run = pangen.fit(case.model, data, steps=steps, seed=case.seed, device="cpu", conditional=False, recipe=fields)  # fmt: skip
    except pangen.PangenError as error:
        return [str(error).split(";")[0]]
    return [warning.split(":")[0] for warning in run.card["warnings"]]


if __name__ == "__main__":
    main()
