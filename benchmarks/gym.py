"""Every source whose law is known, with the models that accept it: regrets, and the time the whole gym takes.

    python benchmarks/gym.py --out runs/compare-gym --page   # as `pangen compare gym`: under 30 minutes on two cores
    python benchmarks/gym.py --sources vectors --models nsf,maf,realnvp --budget 120 --seeds 3
    python benchmarks/gym.py --sources text --models rnn --steps 1500

Records the regret of every model on every source, and says where the best one whose form is not the
source's own is within 0.02 nat of the law (vectors), or within 1 % of its entropy (binary images and text). `--page` writes the best of
each source into docs/gym.md.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from ledger import record
from readme import between

import pangen
from pangen.evaluation.gym import MODELS, best_rows

NATS = {"vectors": 0.02}
SHARE = {"binary images": 0.01, "text": 0.01}
PAGE = Path(__file__).parents[1] / "docs" / "gym.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources")
    parser.add_argument("--models")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--budget", type=float, help="seconds for each model (those of the gym)")
    parser.add_argument("--steps", type=int, help="of training, instead of a budget")
    parser.add_argument("--out")
    parser.add_argument("--page", action="store_true", help="write the table of docs/gym.md")
    args = parser.parse_args()
    began = time.perf_counter()
    result = pangen.gym(
        args.sources, args.models, budget=args.budget, steps=args.steps, seeds=args.seeds, out=args.out
    )
    seconds = time.perf_counter() - began
    for source in result["sources"]:
        longer, settings = (result[key].get(source["name"], {}) for key in ("budgets", "settings"))
        for row in source["rows"]:
            if row.get("regrets"):
                record(
                    "gym", row["regrets"], model=row["model"], data=source["name"], metric="regret", kind=row["kind"],
                    entropy=round(source["entropy"], 5), stderr=round(row["stderr"], 5), steps=args.steps,
                    budget=longer.get(row["model"], result["budget"]), seconds=seconds,
                    **({"changed": settings[row["model"]]} if row["model"] in settings else {}),
                )  # fmt: skip
    reached = []
    for source in result["sources"]:
        goal = NATS.get(source["kind"], SHARE.get(source["kind"], 0) * source["entropy"])
        if goal and source["best"]:
            best = source["best"]
            met = "reaches" if best["regret"] <= goal else "misses"
            reached.append(met == "reaches")
            print(
                f"{source['name']}: {best['model']} {met} {goal:.3f} with {best['regret']:.4f} ± {best['stderr']:.4f}"
            )
    print(f"{sum(reached)} of {len(reached)} goals reached; the whole took {seconds / 60:.1f} minutes.")
    if args.page:
        between(PAGE, "gym", table(result))


def table(result: dict[str, Any]) -> str:
    """In Markdown: of each source the best model, what it cost, and how the law itself is told."""
    head, rows = best_rows(result)
    lines = [
        head,
        ["---"] * len(head),
        *([f"`{row[0]}`", *row[1:4], f"`{row[4]}`", *row[5:]] for row in rows),
    ]
    cells = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    where = f"{result['machine']['cores']} cores of {result['machine']['processor']}"
    return (
        f"{cells}\nOne seed, {len(MODELS)} models or as many of them as a source is accepted by, {where}.\n"
    )


if __name__ == "__main__":
    main()
