"""GPT on tinyshakespeare: likelihood, and what the cache saves.

    python benchmarks/gpt_text.py nanogpt --seeds 3
    python benchmarks/gpt_text.py own --budget 5m --seeds 3
    python benchmarks/gpt_text.py cache --pairs 7

`nanogpt` is the published recipe of nanoGPT for a processor: 4 layers, 4 heads, 128 wide, windows of 64 characters,
batches of 12, 2000 steps. `own` is ours. Both are graded on all of the last tenth of the text, in windows that do not
overlap. As in nanoGPT, the first character of a window counts for nothing, as nothing precedes it; the mean with it is
recorded beside. Run folders under `runs/` are kept: the same command goes on with what was interrupted.

`cache` draws 512 tokens at a context of 512, one text and eight, with the cache and without: the same tokens.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from kept import trained
from ledger import record
from timing import clock

import pangen
from pangen.cli.options import seconds
from pangen.families.autoregressive.gpt import GPT
from pangen.samplers.tokens import NextToken
from pangen.space import Space

SIZE: dict[str, Any] = {"width": 128, "depth": 4, "heads": 4, "dropout": 0.0}
LENGTH, LEVELS, DECODED = 64, 65, 512
NANOGPT = {
    **{f"model.{name}": value for name, value in SIZE.items()},
    "training.batch": 12, "training.lr": 1e-3, "training.final": 0.1, "training.warmup": 100,
    "training.betas": (0.9, 0.99), "training.weight_decay": 0.1, "training.clip": 1.0, "training.ema": 0.0,
}  # fmt: skip
OWN_WINDOW = 128
OWN = {
    "model.width": 192, "model.depth": 4, "model.heads": 6, "model.dropout": 0.0, "model.positions": "rotary",
    "model.precision": "bfloat16", "training.batch": 16, "training.lr": 4e-3, "training.warmup": 100,
    "training.schedule": "linear", "training.weight_decay": 0.1, "training.ema": 0.99,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--budget", type=seconds, default=300.0, help="of a training, for `own`")
    parser.add_argument("--steps", type=int, default=2000, help="of a training, for `nanogpt`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("FIELD", "VALUE"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    TASKS[args.task](args)


def likelihood(args: argparse.Namespace) -> None:
    """Nats a character of the held-out tenth, one value a seed."""
    own = args.task == "own"
    fields = {**(OWN if own else NANOGPT), **dict(args.set)}
    data = pangen.load_data("tinyshakespeare", window=OWN_WINDOW if own else LENGTH)
    length = {"budget": args.budget} if own else {"steps": args.steps}
    began, found, whole, cards = time.perf_counter(), [], [], []
    changed = "".join(f"-{name.rpartition('.')[2]}={value}" for name, value in args.set)
    for seed in range(args.seeds):
        name = f"gpt-{args.task}-{next(iter(length.values())):.0f}{changed}-{seed}"
        run = trained("gpt", data, name, seed=seed, recipe=fields, **length)
        nats = characters(run, data.test.x)
        found.append(float(nats[:, 1:].mean()))
        whole.append(float(nats.mean()))
        cards.append(run.card)
        print(
            f"{args.task} seed {seed}: {found[-1]:.4f} nats a character, {run.card['steps']} steps",
            flush=True,
        )
    record(
        "gpt_text", found, task=args.task, window=data.window, **length,
        trained={name: [card[name] for card in cards] for name in ("steps", "seconds", "best")},
        with_the_first=whole, changed=dict(args.set), metric="test nats a character", seconds=time.perf_counter() - began,
    )  # fmt: skip
    goal = 1.80 if own else 1.94
    mean = statistics.fmean(found)
    print(f"{args.task}: {mean:.4f} nats a character, {'at most' if mean <= goal else 'ABOVE'} {goal}.")


@torch.no_grad()
def characters(run: pangen.Run, texts: tuple[str, ...]) -> torch.Tensor:
    """-log p of each character given those before it in its window `(N, window)`."""
    found = [run.model.nats(run.model.logits(x, None), x) for x in run.codec.encode(texts).x.split(64)]
    return -torch.cat(found).double()


def cache(args: argparse.Namespace) -> None:
    """Interleaved drawing of whole contexts."""
    torch.manual_seed(0)
    model = GPT(Space("tokens", (DECODED,), levels=LEVELS), **SIZE).eval().requires_grad_(False)

    def draw(n: int, cached: bool) -> torch.Tensor:
        steps = NextToken(cached=cached).stream(
            model, n, DECODED, context=DECODED, generator=torch.Generator().manual_seed(0)
        )
        return torch.stack([step.token for step in steps], 1)

    for n in (1, 8):
        began, same = time.perf_counter(), torch.equal(draw(n, True), draw(n, False))
        times = [
            [clock(lambda c=c: draw(n, c), 1) for c in (True, False)]  # noqa: B023
            for _ in range(args.pairs)
        ]
        ratios = [b / a for a, b in times]
        record(
            "gpt_text", ratios, task="cache", texts=n, tokens=DECODED, same_tokens=same,
            median=round(statistics.median(ratios), 2), cached_seconds=round(min(a for a, _ in times), 3),
            metric="seconds without the cache over seconds with it, one value a pair", seconds=time.perf_counter() - began,
        )  # fmt: skip
        print(
            f"{n} texts: the cache draws {statistics.median(ratios):.1f} times as fast, same tokens: {same}."
        )


TASKS: dict[str, Callable[[argparse.Namespace], None]] = {
    "nanogpt": likelihood, "own": likelihood, "cache": cache,
}  # fmt: skip


if __name__ == "__main__":
    main()
