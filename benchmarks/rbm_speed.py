"""An epoch of our RBM against scikit-learn's BernoulliRBM: the same sizes, batch, data and threads.

    OMP_NUM_THREADS=1 python benchmarks/rbm_speed.py

Both learn 784-500 by persistent contrastive divergence with batches and chains of 100, in one
process, taking turns; a result is the mean over rounds of their time over ours. Ours runs the
library's own training step, the moving average of the weights among it.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from ledger import record
from sklearn.neural_network import BernoulliRBM
from timing import clock

from pangen.families.energy.rbm import RBM
from pangen.recipes import Training
from pangen.space import Batch, Space
from pangen.training.loop import State, train_step

BATCH, WIDTH = 100, 500


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--examples", type=int, default=5000, help="in an epoch")
    args = parser.parse_args()
    torch.manual_seed(0)
    x = (torch.rand(args.examples, 1, 28, 28) < 0.2).float()
    theirs = BernoulliRBM(n_components=WIDTH, batch_size=BATCH, n_iter=1, learning_rate=0.1)
    flat = x.flatten(1).numpy()
    settings = Training(**{**RBM.training_defaults, "steps": 10**6, "batch": BATCH})
    ours = {}
    for precision in ("full", "bfloat16"):
        model = RBM(Space("binary", (1, 28, 28), 2), width=WIDTH, chains=BATCH, precision=precision)
        model.initialize(Batch(x))
        ours[precision] = State.start(model.train(), settings)
    ratios, began = {precision: [] for precision in ours}, time.perf_counter()
    for turn in range(args.rounds + 1):
        baseline = clock(lambda: theirs.fit(flat))
        for precision, state in ours.items():
            ratio = baseline / clock(lambda state=state: epoch(state, x, settings))
            if turn:  # the first warms up
                ratios[precision].append(ratio)
    for precision, found in ratios.items():
        record(
            "rbm_speed", found, model="rbm", precision=precision, peer="scikit-learn BernoulliRBM", sizes="784-500",
            metric="their seconds an epoch over ours", seconds=time.perf_counter() - began,
        )  # fmt: skip


def epoch(state: State, x: torch.Tensor, settings: Training) -> None:
    for batch in x.split(BATCH):
        train_step(state, Batch(batch), settings)


if __name__ == "__main__":
    main()
