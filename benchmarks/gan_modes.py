"""Which modes of the data a generator finds, how often, and how sharply: mixtures in the plane, and 1000 stacked digits.

    python benchmarks/gan_modes.py gaussians8 --steps 8000 --seeds 5
    python benchmarks/gan_modes.py gaussians25 --steps 18000 --seeds 5
    python benchmarks/gan_modes.py stacked-digits --budget 20m --seeds 3

In the plane a sample belongs to the nearest mode if it lies within 3 of its standard deviations. Recorded: modes found,
the share of samples within 3 sigma (a perfect model has 98.9 %), the divergence KL(modes of samples || modes of the law),
and the smallest and the largest standard deviation of a mode over the true one; there is room for 10,000 samples.

Stacked digits are three digits as red, green and blue; a classifier trained on the training split names the mode of each
of 25,600 samples. Its KL is to the uniform law. Beside the model stand held-out real images, independent pixels and
Gaussian noise of each pixel's mean and spread, which also find hundreds of modes.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from kept import trained
from ledger import record
from torch import Tensor

import pangen
from pangen.cli.options import seconds
from pangen.data import Data
from pangen.data.embedded import digits
from pangen.evaluation.features import choose_features
from pangen.evaluation.fidelity import frechet_distance

PLANE, STACKED = 10_000, 25_600
NARROW = {  # modes far narrower than what lies between: a quick critic, whose slope costs little at the end
    "model.channels": 32,
    "model.fade": 1e-4,
    "model.pace": 0.5,
    "training.lr": 4e-3,
    "training.final": 0.02,
    "training.batch": 512,
    "training.ema": 0.995,
    "training.validations": 1,  # the weights of the end are taken
}
FIELDS: dict[str, dict[str, Any]] = {
    "gaussians8": {**NARROW, "model.pace": 0.2},  # with few modes the game is quick, and they come out narrow
    "gaussians25": NARROW,
    "stacked-digits": {"model.noise": 64, "model.gamma": 3.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=FIELDS)
    parser.add_argument("--model", default="r3gan")
    parser.add_argument("--budget", type=seconds, default=600.0)
    parser.add_argument("--steps", type=int, help="in the place of a budget")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("FIELD", "VALUE"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data, began = pangen.load_data(args.data), time.perf_counter()
    grade = Stacked(data) if args.data == "stacked-digits" else Plane(data)
    changed = "".join(f"-{name.rpartition('.')[2]}={value}" for name, value in args.set)
    fields = {**FIELDS[args.data], **dict(args.set)}
    much = {"steps": args.steps} if args.steps else {"budget": args.budget}
    amount = f"{args.steps} steps" if args.steps else f"{args.budget:.0f}s"
    found = []
    for seed in range(args.seeds):
        run = trained(
            args.model, data, f"{args.model}-{args.data}-{amount}{changed}-{seed}".replace(" ", "-"),
            **much, seed=seed, recipe=fields,
        )  # fmt: skip
        found.append({**grade(run.sample(grade.samples, seed=seed)), "steps": run.card["steps"]})
        print(f"seed {seed}:", {k: round(v, 4) for k, v in found[-1].items()}, flush=True)
    facts = {
        "model": args.model, "data": args.data, **much, "changed": dict(args.set),
        "taken": [one.pop("steps") for one in found],
    }  # fmt: skip
    for metric in found[0]:
        values = [one[metric] for one in found]
        record("gan_modes", values, **facts, metric=metric, seconds=time.perf_counter() - began)
    if isinstance(grade, Stacked):
        grade.yardsticks(data)


class Plane:
    """Grades samples of a mixture of Gaussians."""

    samples = PLANE

    def __init__(self, data: Data) -> None:
        self.centres, self.std = data.truth.centres.double(), data.truth.std

    def __call__(self, x: Tensor) -> dict[str, float]:
        distance, mode = torch.cdist(x.double(), self.centres).min(1)
        near = distance <= 3 * self.std
        counts = torch.bincount(mode[near], minlength=len(self.centres))
        apart = x.double() - self.centres[mode]
        spreads = torch.stack(
            [apart[near & (mode == i)].square().mean().sqrt() / self.std for i in counts.nonzero()[:, 0]]
        )
        return {
            "modes found": float((counts > 0).sum()),
            "share within 3 sigma": float(near.double().mean()),
            "KL of modes": divergence(counts),
            "smallest spread of a mode over the true one": float(spreads.min()),
            "largest spread of a mode over the true one": float(spreads.max()),
        }


class Stacked:
    """Grades stacked digits."""

    samples = STACKED

    def __init__(self, data: Data) -> None:
        from sklearn.svm import SVC

        grey = digits()
        self.classifier = SVC(gamma=0.001, C=10.0).fit(grey.train.x.flatten(1).numpy(), grey.train.y.numpy())
        right = self.classifier.predict(grey.test.x.flatten(1).numpy()) == grey.test.y.numpy()
        print(f"the classifier knows {right.mean():.1%} of held-out digits", flush=True)
        self.features = choose_features(data, 5000)
        self.real = self.features.embed(data.test.x)

    def __call__(self, x: Tensor) -> dict[str, float]:
        said = torch.from_numpy(self.classifier.predict(x.flatten(0, 1).flatten(1).numpy())).view(-1, 3)
        counts = torch.bincount(said @ torch.tensor([100, 10, 1]), minlength=1000)
        return {
            "modes found": float((counts > 0).sum()),
            "KL of modes": divergence(counts),
            f"Frechet distance, {self.features.name}": frechet_distance(self.real, self.features.embed(x)),
        }

    def yardsticks(self, data: Data) -> None:
        """The same of held-out images, and of what knows nothing of digits."""
        train, grey, generator = data.train.x.double(), digits().test.x, torch.Generator().manual_seed(0)
        place = torch.randint(len(train), (STACKED, *data.shape), generator=generator)
        noise = torch.randn(STACKED, *data.shape, generator=generator, dtype=torch.float64)
        rows = {
            "held-out images": grey[torch.randint(len(grey), (STACKED, 3), generator=generator), 0],
            "independent pixels": train.flatten(1).gather(0, place.flatten(1)).view(place.shape),
            "Gaussian noise": train.mean(0) + train.std(0) * noise,
        }
        for name, x in rows.items():
            grades = self(x.round().clamp(0, data.levels - 1).to(torch.uint8))
            for metric, value in grades.items():
                record(
                    "gan_modes",
                    [value],
                    model=name,
                    data=data.name,
                    examples=len(x),
                    metric=metric,
                    seconds=0.0,
                )


def divergence(counts: Tensor) -> float:
    """KL(shares || uniform) in nats."""
    p = counts.double() / counts.sum().clamp(min=1)
    return float(torch.special.xlogy(p, p * len(p)).sum())


if __name__ == "__main__":
    main()
