"""How cost grows: seconds and memory of a training step, and seconds of samples, against sizes; exponents beside theory.

    OMP_NUM_THREADS=1 python benchmarks/growth.py
    python benchmarks/growth.py --only gpt pixelcnn
    python benchmarks/growth.py --page               the figure and the table of docs/cost.md, of the latest results

Each line doubles one size, the others fixed, and fits cost ~ size^exponent by least squares of the logarithms. Seconds
are the processor's, the least of a few steps; memory is what a step keeps for its backward pass, counted and not
measured. Sizes are small, so that all of it takes five minutes of one core, and what is fixed about a step flattens
lines at their left ends: the exponent of the last doubling is given as well.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from ledger import RESULTS, record
from readme import ROOT, between
from torch import Tensor

from pangen.codecs import choose_codec
from pangen.data.batches import Batches, Piece
from pangen.data.given import as_data
from pangen.model import GenerativeModel
from pangen.recipes import Training
from pangen.registry import entries, get
from pangen.space import Batch, Progress, Space
from pangen.training.loop import State, train_step

REPEATS, SECONDS = 5, 0.25
FIGURE = ROOT / "docs" / "assets" / "cost.png"


def images(side: int, kind: str = "real") -> Space:
    return Space(kind, (1, side, side), levels=2 if kind == "binary" else 256)


def bits(side: int) -> Space:
    return images(side, "binary")


def text(length: int) -> Space:
    return Space("tokens", (length,), levels=64)


def vectors(columns: int) -> Space:
    return Space("real", (columns,))


@dataclass(frozen=True)
class Line:
    """One model against one size."""

    model: str
    size: str
    """What is doubled, as the docs name it."""
    sizes: Sequence[int]
    space: Callable[[int], Space]
    """Of the size; for sizes of the model, of `fixed`."""
    theory: str
    batch: int = 16
    fields: dict[str, Any] = field(default_factory=dict)
    setting: str = ""
    """The model's setting that is the size, and not its space."""
    fixed: int = 0
    work: str = "training"
    how: str = ""
    """The setting of sampling that is the size."""

    @property
    def name(self) -> str:
        return f"{self.model} {self.work} {self.size}"

    def made(self, size: int) -> GenerativeModel:
        settings = {**self.fields, **({self.setting: size} if self.setting else {})}
        torch.manual_seed(0)
        own = self.fixed if self.setting or self.how else size
        return get(self.model).load()(self.space(own), **settings)


WIDTHS, MLP = (256, 512, 1024, 2048), {"network": "mlp"}
LINES = (
    Line("gpt", "tokens", (128, 256, 512, 1024), text, "1, attention 2", 4, {"width": 64}),
    Line("rnn", "tokens", (128, 256, 512, 1024), text, "1", 4),
    Line("pixelcnn", "pixels", (8, 16, 32), bits, "1", 8),
    Line("gpt", "parameters", (64, 128, 256, 512), text, "1", 8, setting="width", fixed=64),
    Line("made", "parameters", (128, 256, 512, 1024), bits, "1", 64, setting="width", fixed=16),
    Line("gpt", "tokens", (16, 32, 64, 128), text, "1, attention 2", 4, {"width": 64}, work="sampling"),
    Line("pixelcnn", "pixels", (4, 8, 16), bits, "1, one pass a pixel", 4, {"channels": 16}, work="sampling"),
    Line("ddpm", "pixels", (16, 32, 64), images, "1", 8, {"width": 256}),
    Line("ddpm", "parameters", (128, 256, 512, 1024), images, "1", 8, setting="width", fixed=16),
    Line("ddpm", "steps", (4, 8, 16, 32), images, "1", 4, {"width": 64}, fixed=16, work="sampling", how="steps"),
    Line("vae", "pixels", (16, 32, 64), bits, "1", 64, {"width": 128}),
    Line("vae", "parameters", WIDTHS, bits, "1", 256, MLP, setting="width", fixed=28),
    Line("vae", "pixels", (8, 16, 32, 64), bits, "1", 64, {"width": 64}, work="sampling"),
    Line("dcgan", "pixels", (16, 32, 64), images, "1", 16, {"channels": 32}),
    Line("dcgan", "pixels", (16, 32, 64), images, "1", 32, {"channels": 16}, work="sampling"),
    Line("glow", "pixels", (16, 32, 64), images, "1", 4, {"width": 64}),
    Line("maf", "parameters", (128, 256, 512, 1024), vectors, "1", 256, setting="width", fixed=32),
    Line("maf", "columns", (4, 8, 16, 32), vectors, "1, one pass a column", 64, work="sampling"),
    Line("realnvp", "columns", (4, 8, 16, 32), vectors, "0 to 1, one pass", 512, work="sampling"),
    Line("rbm", "pixels", (16, 32, 64), bits, "1", 128, {"width": 512}),
    Line("rbm", "parameters", (256, 512, 1024, 2048), bits, "1", 128, setting="width", fixed=28),
    Line("rbm", "sweeps", (8, 16, 32, 64), bits, "1", 64, fixed=16, work="sampling", how="sweeps"),
    Line("consistency", "pixels", (16, 32, 64), images, "1", 8, {"width": 256}),
    Line("vae", "examples", (1000, 4000, 16000, 64000), vectors, "0", 64, MLP, fixed=2, work="data"),
    Line("kde", "examples", (1000, 2000, 4000, 8000), vectors, "1", 64, fixed=2, work="log_prob"),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="lines whose names contain one of these")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of measuring a point, at least")
    parser.add_argument("--page", action="store_true", help="make the figure and the table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.page:
        page()
        return
    chosen = [line for line in LINES if not args.only or any(part in line.name for part in args.only)]
    if not chosen:
        parser.error(f"no line has a name that contains {' or '.join(args.only)}.")
    for line in chosen:
        measure(line, args.seconds)


def measure(line: Line, seconds: float) -> None:
    began = time.perf_counter()
    points = [point(line, size, seconds) for size in line.sizes]
    x = [p["x"] for p in points]
    slopes = {
        what: exponent(x, [p[what] for p in points]) for what in ("seconds", "kept") if points[0].get(what)
    }
    last = exponent(x[-2:], [p["seconds"] for p in points[-2:]])
    record(
        "growth", [slopes["seconds"]], model=line.model, work=line.work, size=line.size, theory=line.theory, x=x,
        step_seconds=[round(p["seconds"], 6) for p in points], kept_bytes=[p.get("kept", 0) for p in points],
        last_doubling=round(last, 3), memory_exponent=round(slopes.get("kept", 0.0), 3),
        metric="exponent of seconds", seconds=time.perf_counter() - began,
    )  # fmt: skip


def point(line: Line, size: int, seconds: float) -> dict[str, Any]:
    """Seconds of a piece of work of this size, and bytes that a training step keeps."""
    if line.work == "data":
        return of_data(line, size, seconds)
    if line.work == "log_prob":
        return of_density(line, size, seconds)
    model = line.made(size)
    x = math.prod(model.space.shape[1:]) if line.size == "pixels" else size
    if line.size == "parameters":
        x = sum(p.numel() for p in model.parameters())
    if line.work == "sampling":
        model.chunk, how = line.batch, {line.how: size} if line.how else {}
        model.eval().requires_grad_(False)
        return {"x": x, "seconds": least(lambda: model.sample(line.batch, **how), seconds)}
    batch = Batch(examples(model.space, line.batch))
    model.train().initialize(batch)
    state, settings = State.start(model, Training(steps=10**6)), Training(steps=10**6)
    return {
        "x": x,
        "kept": kept(model, batch),
        "seconds": least(lambda: train_step(state, [Piece(batch)], settings), seconds),
    }


def of_data(line: Line, size: int, seconds: float) -> dict[str, Any]:
    """A step and its batch, of so many examples."""
    data = as_data(torch.randn(size, line.fixed))
    model = get(line.model).load()(line.space(line.fixed), **line.fields).train()
    codec = choose_codec(get(line.model), data)
    train = Batches(data.train, codec, line.batch, 0, "cpu")
    state, settings = State.start(model, Training(steps=10**6)), Training(steps=10**6)
    work = lambda: train_step(state, train.pieces(state.step, 1), settings)  # noqa: E731
    return {"x": size, "seconds": least(work, seconds)}


def of_density(line: Line, size: int, seconds: float) -> dict[str, Any]:
    """log p of a batch, by a model that keeps its examples."""
    x = torch.randn(size, line.fixed)
    empty = get(line.model).load()(line.space(line.fixed))
    model = get(line.model).load()(line.space(line.fixed), **empty.fit_exactly(Batch(x), Batch(x[:64])))
    return {"x": size, "seconds": least(lambda: model.log_prob(x[: line.batch]), seconds)}


def examples(space: Space, n: int) -> Tensor:
    if space.kind == "tokens":
        return torch.randint(space.levels, (n, *space.shape))
    if space.kind == "binary":
        return (torch.rand(n, *space.shape) < 0.3).float()
    return torch.randint(256, (n, *space.shape)) / 127.5 - 1 if space.levels else torch.randn(n, *space.shape)


def kept(model: GenerativeModel, batch: Batch) -> int:
    """Bytes that the losses of a step keep for their backward passes, weights left out."""
    storages: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = [loss for _, loss in model.steps(batch, Progress(0, 1))]
    del losses
    return sum(storages.values())


def least(work: Callable[[], object], seconds: float) -> float:
    """Processor seconds of the quickest of a few calls, after one."""
    work()
    best, spent, calls = math.inf, 0.0, 0
    while calls < REPEATS or spent < seconds:
        began = time.process_time()
        work()
        took = time.process_time() - began
        best, spent, calls = min(best, took), spent + took, calls + 1
    return best


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def page() -> None:
    """Of the latest result of each line."""
    path = RESULTS / "growth.jsonl"
    if not path.exists():
        raise SystemExit("there are no results yet: run this without --page first.")
    latest = {(r["model"], r["work"], r["size"]): r for r in map(json.loads, path.read_text().splitlines())}
    rows = sorted(latest.values(), key=lambda r: list(entries()).index(r["model"]))
    between(ROOT / "docs" / "cost.md", "cost", table(rows))
    figure(rows)


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| family | model | of | against | exponent, theory | seconds | last doubling | memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        memory = f"{row['memory_exponent']:.2f}" if row["memory_exponent"] else ""
        what = {"training": "a step", "data": "a step", "log_prob": "log p(x)"}.get(row["work"], "samples")
        family = get(row["model"]).family
        lines.append(
            f"| {family} | `{row['model']}` | {what} | {row['size']} | {row['theory']} | {row['mean']:.2f} "
            f"| {row['last_doubling']:.2f} | {memory} |"
        )
    return "\n".join(lines) + f"\n\n{rows[0]['hardware']}, one thread, {rows[0]['date']}.\n"


def figure(rows: Sequence[dict[str, Any]]) -> None:
    """A panel a family: cost against size, both over those of the smallest."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    families = list(dict.fromkeys(get(row["model"]).family for row in rows))
    fig, axes = plt.subplots(2, math.ceil(len(families) / 2), figsize=(12, 6), layout="constrained")
    for ax, family in zip(axes.flat, families, strict=False):
        for row in (r for r in rows if get(r["model"]).family == family):
            x, y = np.array(row["x"]), np.array(row["step_seconds"])
            drawn = row["work"] == "sampling"
            ax.plot(
                x / x[0],
                y / y[0],
                "--" if drawn else "-",
                marker="o",
                ms=3,
                label=f"{row['model']}{' drawn' * drawn}: {row['size']}",
            )
        ends = np.array(ax.get_xlim()).clip(1)
        ax.plot(ends, ends, ":", color="grey", label="exponent 1")
        ax.set_xscale("log", base=2)
        ax.set_yscale("log", base=2)
        ax.set(title=family, xlabel="size, times", ylabel="seconds, times")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter("{x:g}")
        ax.legend(fontsize=6)
    for ax in axes.flat[len(families) :]:
        ax.axis("off")
    fig.savefig(FIGURE, dpi=100)


if __name__ == "__main__":
    main()
