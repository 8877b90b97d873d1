"""The showcase on the embedded digits, as `make demo` runs it, over several seeds.

    python benchmarks/digits.py --seeds 3 --budget 12

Prints and records likelihood, Frechet distance and train-on-synthetic accuracy of every model, and
whether the claims of the README hold.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from ledger import interval, record

import pangen

MEASURES = {
    "bits_per_dim": lambda row: row["likelihood"].get("bits_per_dim"),
    "frechet": lambda row: row["fidelity"].get("frechet", {}).get("value"),
    "train_on_synthetic_accuracy": lambda row: row["classification"].get("value"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=12.0)
    parser.add_argument("--models", default=None)
    args = parser.parse_args()
    began = time.perf_counter()
    result = pangen.compare("digits", args.models, budget=args.budget, seeds=args.seeds)
    seconds = time.perf_counter() - began
    means: dict[str, dict[str, float]] = {}
    for model in dict.fromkeys(row["model"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["model"] == model and "failed" not in row]
        for measure, read in MEASURES.items():
            values = [value for row in rows if (value := read(row)) is not None]
            if values:
                record("digits", values, model=model, metric=measure, budget=args.budget, seconds=seconds)
                means.setdefault(measure, {})[model] = interval(values)[0]
    if args.models is None:
        verdict(means)


def verdict(means: dict[str, dict[str, float]]) -> None:
    """The claims that are made about this table, held against it."""
    bits, frechet, accuracy = (means[m] for m in MEASURES)
    for model in ("made", "gpt", "vae"):
        print(
            f"{model} beats naive Bayes in bits/dim: {bits[model] < bits['independent']} ({bits[model]:.3f} < {bits['independent']:.3f})"
        )
    for model in ("realnvp", "ddpm"):
        print(f"{model} beats naive Bayes in Frechet distance: {frechet[model] < frechet['independent']}")
    good = [
        m
        for m, value in accuracy.items()
        if value >= 0.88 and m not in ("independent", "mixture", "kde", "ngram")
    ]
    print(f"deep models with train-on-synthetic accuracy >= 88 %: {', '.join(good)} ({len(good)})")


if __name__ == "__main__":
    main()
