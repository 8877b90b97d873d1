"""seq2seq: toys whose rule is known, and German to English captions, the Transformer beside GRUs that attend.

    python benchmarks/translation.py toys --seeds 3 --steps 2000
    python benchmarks/translation.py multi30k --budget 60m --seeds 1
    python benchmarks/translation.py multi30k --pairs 2000 --budget 60s

`toys`: share of 1000 held-out strings whose answer is right in every letter, greedily. `multi30k`: BLEU of the
test set of 2016 by sacrebleu (13a, mixed case) with a beam of 4; captions in PANGEN_DATA. `--pairs` trains on the first so
many pairs, which runs anywhere and says little.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from ledger import interval, record

import pangen
from pangen.cli.options import seconds

ARCHITECTURES = ("transformer", "rnn")
TOY = {"model.width": 64, "training.lr": 3e-3, "training.validations": 5}
CAPTIONS = {
    "transformer": {
        "model.width": 256,
        "model.depth": 3,
        "model.heads": 4,
        "model.dropout": 0.3,
        "training.lr": 1e-3,
    },
    "rnn": {"model.width": 256, "model.depth": 1, "model.dropout": 0.3, "training.lr": 1e-3},
}
"""Both with about as many numbers in their vectors; 0.3 of dropout because 29000 pairs are few (Wu et al. 2021)."""


def toys(seeds: int, steps: int) -> None:
    for name in ("copying", "reversal", "sorting"):
        data = pangen.load_data(name)
        means = {}
        for architecture in ARCHITECTURES:
            shares, began = [], time.perf_counter()
            for seed in range(seeds):
                recipe = {"model.architecture": architecture, **TOY}
                run = pangen.fit("seq2seq", data, steps=steps, seed=seed, device="cpu", recipe=recipe)
                found = pangen.translate(run, data.test.y, beam=1)
                shares.append(sum(map(str.__eq__, found, data.test.x)) / len(found))
            spent = time.perf_counter() - began
            record(
                "translation",
                shares,
                task=name,
                architecture=architecture,
                steps=steps,
                metric="exact",
                seconds=spent,
            )
            means[architecture] = interval(shares)[0]
        print(f"{name}: " + verdict(means, 100, "% of the strings right"))


def multi30k(seeds: int, budget: float, pairs: int | None, vocabulary: int, device: str) -> None:
    from sacrebleu.metrics import BLEU

    data = pangen.load_data("multi30k")
    data = data if pairs is None else replace(data, train=data.train.first(pairs))
    means = {}
    for architecture in ARCHITECTURES:
        scores, began = [], time.perf_counter()
        for seed in range(seeds):
            recipe = {
                "model.architecture": architecture,
                "codec.vocabulary": vocabulary,
                **CAPTIONS[architecture],
            }
            run = pangen.fit("seq2seq", data, budget=budget, seed=seed, device=device, recipe=recipe)
            found = pangen.translate(run, data.test.y, beam=4)
            scores.append(BLEU().corpus_score(found, [list(data.test.x)]).score)
            for source, target in zip(data.test.y[:3], found[:3], strict=True):
                print(f"  {source} -> {target}", flush=True)
        spent = time.perf_counter() - began
        facts = {
            "architecture": architecture,
            "pairs": len(data.train),
            "budget": budget,
            "vocabulary": vocabulary,
        }
        record("translation", scores, task="multi30k", **facts, metric="BLEU", seconds=spent)
        means[architecture] = interval(scores)[0]
    print("multi30k: " + verdict(means, 1, "BLEU"))


def verdict(means: dict[str, float], scale: float, unit: str) -> str:
    """Who won, in a sentence."""
    if means["transformer"] == means["rnn"]:
        return f"both reach {scale * means['rnn']:.1f} {unit}."
    first, second = sorted(means, key=means.__getitem__, reverse=True)
    return (
        f"{first} wins with {scale * means[first]:.1f} {unit} over {second} with {scale * means[second]:.1f}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("toys", "multi30k"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--budget", type=seconds, default=60.0)
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    if args.task == "toys":
        toys(args.seeds, args.steps)
    else:
        multi30k(args.seeds, args.budget, args.pairs, args.vocabulary, args.device)


if __name__ == "__main__":
    main()
