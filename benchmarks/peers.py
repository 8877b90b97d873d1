"""Pangen's speed beside that of its peers: both sides take turns in one process, at the same work, batch and threads.

Both sides have the allocator and the waiting threads that `pangen` sets.

    pip install -c constraints.txt -e '.[peers]'; pip install diffusers nflows torchebm x-transformers flow_matching
    python benchmarks/peers.py --threads 2
    python benchmarks/peers.py --only zuko "gpt training"
    python benchmarks/peers.py --list
    python benchmarks/peers.py --page

A result is the median, over turns, of their time over ours, with the interval that covers it with at least 95 %
probability, from the turns' order alone. Numbers of parameters must agree, losses fall on both sides, and what is drawn
have one shape; else there is no result. Products are float32 on both sides, or rounded to bfloat16 on both; where only
ours are, that is each side's own best setting and says so. Nothing is compiled. A peer that is not installed is left out. `--page` writes the table of docs/cost.md from the last
result of each pair.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as `pangen` sets them
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch
from peers import adversarial, autoregressive, diffusion, energy, flows, latent, page
from peers.pair import OURS, Package, Pair
from peers.turns import CLOCKS, compare
from readme import between

from pangen.memory import keep_freed

KINDS = (latent, energy, flows, diffusion, autoregressive, adversarial)
FEWEST = 7
PAGE = Path(__file__).parents[1] / "docs" / "cost.md"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="pairs whose names contain one of these")
    parser.add_argument("--list", action="store_true", help="the names of all pairs, and no more")
    parser.add_argument("--page", action="store_true", help="write the table of docs/cost.md, and no more")
    parser.add_argument("--pairs", type=int, default=9, help="turns of each side, at least 7")
    parser.add_argument("--turn", type=float, default=0.3, help="seconds of a turn, at least")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall",
        help="seconds of the wall, or of the processor: on a machine that others use too, with one thread",
    )  # fmt: skip
    args = parser.parse_args()
    if args.pairs < FEWEST:
        parser.error(f"--pairs {args.pairs} is too few for an interval; take at least {FEWEST}.")
    if args.page:
        between(PAGE, "peers", page.table())
        return
    keep_freed()
    torch.set_num_threads(args.threads)
    chosen = [p for p in everything() if not args.only or any(name in p.name for name in args.only)]
    if not chosen:
        parser.error(f"no pair has a name that contains {' or '.join(args.only)}; --list has them all.")
    if args.list:
        print("\n".join(pair.name for pair in chosen))
        return
    for package in dict.fromkeys(p.peer for p in chosen if missing(p)):
        print(f"{package.name} is not installed and is left out; `{package.install}` brings it.")
    found = {pair: compare(pair, args.pairs, args.turn, args.clock) for pair in chosen if not missing(pair)}
    print(verdict({pair: ratios for pair, ratios in found.items() if ratios}))


def everything() -> Iterator[Pair]:
    for kind in KINDS:
        yield from kind.pairs()


def missing(pair: Pair) -> bool:
    return isinstance(pair.peer, Package) and pair.peer.missing


def verdict(found: dict[Pair, list[float]]) -> str:
    """Where Pangen is slower, in one sentence."""
    if not found:
        return "Nothing could be compared."
    equal = {pair.name: statistics.median(ratios) for pair, ratios in found.items() if pair.precision != OURS}
    slower = sorted((median, name) for name, median in equal.items() if median < 1)
    told = f"the median of {len(equal)} ratios at equal precision is {statistics.median(equal.values()):.2f}" if equal else "none is at equal precision"  # fmt: skip
    if slower:
        return (
            f"Below 1.0, Pangen being slower: {'; '.join(f'{m:.2f} {name}' for m, name in slower)}; {told}."
        )
    return f"No ratio is below 1.0; {told}."


if __name__ == "__main__":
    main()
