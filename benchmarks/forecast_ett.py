"""Forecasts of a transformer's oil temperature (ETTh1, OT): a day ahead, from every midnight of the test split.

    PANGEN_DATA=... python benchmarks/forecast_ett.py --budget 600 --seeds 3

Every model sees the last 168 hours. Prints and records the CRPS, the error of the median and the coverage
of the intervals of each model, the trained ones over several seeds; the others have no chance in them but
that of their paths. The last line says who won.
"""

from __future__ import annotations

import argparse
import os
import time
from statistics import fmean

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from ledger import record

import pangen
from pangen.data import Data

MODELS = {"seasonal-naive": False, "arima": False, "rnn": True, "gpt": True}
"""Whether it is trained by steps."""
MEASURES = ("crps", "mae", "coverage_80", "coverage_90", "coverage_95")
HORIZON = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=600.0, help="seconds of training, of rnn and gpt")
    parser.add_argument("--every", type=int, default=24)
    parser.add_argument("--paths", type=int, default=256)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--data", default="ett")
    args = parser.parse_args()
    data = pangen.load_data(args.data)
    rows = {name: scores(name, data, args) for name in args.models}
    print(f"{'model':16}" + "".join(f"{measure:>14}" for measure in MEASURES))
    for name, row in rows.items():
        print(f"{name:16}" + "".join(f"{row[measure][0]:14.4f}" for measure in MEASURES))
    verdict({name: row["crps"] for name, row in rows.items()})


def scores(name: str, data: Data, args: argparse.Namespace) -> dict[str, tuple[float, float, float]]:
    """Of each measure the mean over seeds, and of its interval over origins the mean ends."""
    began, found, budget = time.perf_counter(), [], args.budget if MODELS[name] else None
    for seed in range(args.seeds if MODELS[name] else 1):
        run = pangen.fit(name, data, seed=seed, budget=budget)
        found.append(
            pangen.score_forecasts(run, data, horizon=HORIZON, every=args.every, paths=args.paths, seed=seed)
        )
    seconds, row = time.perf_counter() - began, {}
    for measure in MEASURES:
        values = [one[measure]["value"] for one in found]
        ends = [fmean(one[measure]["interval"][i] for one in found) for i in (0, 1)]
        row[measure] = fmean(values), *ends
        record(
            "forecast_ett", values, model=name, data=data.name, metric=measure, horizon=HORIZON,
            budget=budget, origins=found[0]["origins"], paths=args.paths,
            over_origins=[round(end, 4) for end in ends], seconds=seconds,
        )  # fmt: skip
    return row


def verdict(crps: dict[str, tuple[float, float, float]]) -> None:
    """Who won, and whether by more than chance."""
    best, *others = sorted(crps, key=lambda name: crps[name][0])
    line = f"{best} won with a CRPS of {crps[best][0]:.4f}"
    if others:
        second = others[0]
        apart = crps[best][2] < crps[second][1]
        line += f", before {second} with {crps[second][0]:.4f}; over origins their intervals {'are apart' if apart else 'overlap'}"
    print(line + ".")


if __name__ == "__main__":
    main()
