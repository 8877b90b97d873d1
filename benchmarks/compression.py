"""Likelihoods as files: what each model makes of held-out data, beside other programs, with the speed both ways.

    PANGEN_DATA=... python benchmarks/compression.py text --budget 5m
    PANGEN_DATA=... python benchmarks/compression.py made pixelcnn vae --data digits --budget 5m
    PANGEN_DATA=... python benchmarks/compression.py vae hvae pixelcnn --data mnist --budget 20m --examples 1000
    PANGEN_DATA=... python benchmarks/compression.py made --data mnist --budget 6m --examples 1000 --set model.width 500 --set training.batch 50
    PANGEN_DATA=... python benchmarks/compression.py hvae --data mnist-binary-static --budget 42m --set model.k 1
    PANGEN_DATA=... python benchmarks/compression.py pixelcnn --data mnist-binary-static --budget 30m --examples 1000
    python benchmarks/compression.py realnvp glow --data digits --budget 2m
    PANGEN_DATA=... python benchmarks/compression.py pixelcnn --data cifar10-lossless-4k --budget 25m --examples 200
    PANGEN_DATA=... python benchmarks/compression.py wavenet --budget 28m --examples 60
    PANGEN_DATA=... python benchmarks/compression.py vae --data mnist --budget 2m --set model.network mlp
    python benchmarks/compression.py hvae --data mnist-binary-static --run runs/FOLDER
    python benchmarks/compression.py --page

`text` is `gpt` on tinyshakespeare as `gpt_text.py own` trains it. The first `--examples` of the test split are written
to files, compressed, decompressed and compared; a file that does not come back ends the benchmark. Bits a dimension
are of the whole file, header and initial bits and all, without the weights, whose bytes are recorded beside. Run
folders under `runs/` are kept, and one that is complete is not trained again; `--run` takes another benchmark's.
`--page` writes the table of docs/compression.md from the last result of each model on each data.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from autoregressive_mnist import FIELDS as PIXELS
from autoregressive_mnist import TRAINING
from gpt_text import OWN, OWN_WINDOW
from kept import trained
from latent_mnist import TASKS
from ledger import RESULTS, record
from readme import between

import pangen
from pangen.cli.options import seconds
from pangen.compression.archive import read_inputs
from pangen.compression.kinds import kind_of
from pangen.compression.sizes import others
from pangen.data import Data
from pangen.data.sound import wav
from pangen.run import Run

ROUNDED = {"model.precision": "bfloat16"}
FIELDS: dict[str, dict[str, Any]] = {
    "gpt": OWN,
    "pixelcnn": ROUNDED,
    "hvae": ROUNDED,
    "vae": ROUNDED,
}
MNIST: dict[str, dict[str, Any]] = {
    "made": TRAINING | PIXELS["made"],
    "pixelcnn": TRAINING | PIXELS["pixelcnn"],
    "hvae": TRAINING | TASKS["hvae"].fields,
    "vae": TRAINING,
}
DATA = {"gpt": "tinyshakespeare", "wavenet": "fsdd"}
PAGE = Path(__file__).parents[1] / "docs" / "compression.md"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--budget", type=seconds, default=300.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("FIELD", "VALUE"))
    parser.add_argument("--run", help="a folder of the one model, trained before")
    parser.add_argument("--page", action="store_true", help="write the table of docs/compression.md")
    args = parser.parse_args()
    if not args.models and not args.page:
        parser.error("name models, or --page")
    if args.models:
        compare(args)
    if args.page:
        between(PAGE, "compression", table())


def compare(args: argparse.Namespace) -> None:
    """All models on one data, and who won."""
    torch.set_num_threads(args.threads)
    names = ["gpt" if name == "text" else name for name in args.models]
    rates = {name: measured(name, args) for name in names}
    best = min(rates, key=lambda name: rates[name]["pangen"])
    rivals = {name: rate for name, rate in rates[best].items() if name != "pangen"}
    least = min(rivals, key=rivals.__getitem__)
    word = "wins" if rates[best]["pangen"] < rivals[least] else "loses"
    print(
        f"{best} {word} against {least}: {rates[best]['pangen']:.3f} against {rivals[least]:.3f} bits a dimension, weights not counted."
    )


def measured(name: str, args: argparse.Namespace) -> dict[str, float]:
    """Bits a dimension of the test examples by one model, a mean over seeds, and by other programs."""
    kind, changed = DATA.get(name, args.data), dict(args.set)
    fields = {**FIELDS.get(name, {}), **(MNIST.get(name, {}) if kind.startswith("mnist") else {}), **changed}
    told = "".join(f"-{field.rpartition('.')[2]}={value}" for field, value in args.set)
    options = {"window": OWN_WINDOW} if kind == "tinyshakespeare" else {}
    data, runs, found = pangen.load_data(kind, **options), [], []
    for seed in range(args.seeds):
        folder = f"compression-{name}-{kind}-{args.budget:g}s{told}-{seed}"
        run = (
            pangen.load_run(args.run, device="cpu")
            if args.run
            else trained(name, data, folder, budget=args.budget, seed=seed, conditional=False, recipe=fields)
        )
        runs.append(run)
        found.append(there_and_back(run, data, args.examples))
    one = found[0]
    told_of = ("bytes", "compressed", "header", "initial", "likelihood", "over_model", "weights")
    facts = {key: one[key] for key in told_of}
    speed = {key: round(min(f[key] for f in found), 4) for key in ("mb_per_second", "mb_per_second_back")}
    record(
        "compression", [f["rates"]["pangen"] for f in found], model=name, data=kind, budget=args.budget,
        trained=[run.card["seconds"] for run in runs], changed=changed, **facts, **speed, others={k: round(v, 4) for k, v in one["rates"].items() if k != "pangen"},
        metric="bits a dimension of the file", seconds=sum(f["seconds"] for f in found),
    )  # fmt: skip
    return {**one["rates"], "pangen": float(np.mean([f["rates"]["pangen"] for f in found]))}


def there_and_back(run: Run, data: Data, n: int) -> dict[str, Any]:
    """The report of compressing test examples, with bits a dimension of each way to write them."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        raw = written(place / "in", data, n)
        report = pangen.compress(run, place / "in", place / "x.pgn")
        back = pangen.decompress(place / "x.pgn", place / "out", run=run)
        for path in (place / "in").iterdir():
            assert (place / "out/in" / path.name).read_bytes() == path.read_bytes(), path.name
        rivals = others(dict(read_inputs([place / "in"])), kind_of(run.codec))
    dims = len(raw) if isinstance(raw, str) else run.codec.dims(raw)
    sizes = {"pangen": report["compressed"], **rivals}
    rates = {name: 8 * size / dims for name, size in sizes.items()}
    exact = {"likelihood": 8 * report["model"] / dims, "mb_per_second_back": back["mb_per_second"]}
    return {**report, **exact, "rates": rates}


def written(folder: Path, data: Data, n: int) -> Any:
    """Test examples as files; returns what was written."""
    folder.mkdir()
    raw = data.test.x[:n]
    if data.modality == "text":
        (folder / "test.txt").write_bytes("".join(raw).encode())
        return "".join(raw)
    if data.modality == "sound":
        for i, clip in enumerate(raw):
            (folder / f"{i}.wav").write_bytes(wav([clip], data.rate, pause=0.0))
        return raw
    np.save(folder / "test.npy", raw.numpy())
    return raw


def table() -> str:
    """In Markdown: the last result of each model on each data, the best of each data first."""
    lines = (RESULTS / "compression.jsonl").read_text().splitlines()
    last = {(row["data"], row["model"], *row["changed"].items()): row for row in map(json.loads, lines)}
    head = "| data | model | trained, s | −log₂ p a dimension | the file | by others | MB/s there, back | weights, MB |\n|---|---|---|---|---|---|---|---|\n"
    cells = []
    for (data, model, *changed), row in sorted(last.items(), key=lambda one: (one[0][0], one[1]["mean"])):
        told = "".join(f", {field.rpartition('.')[2]} {value}" for field, value in changed)
        rivals = sorted(row["others"].items(), key=lambda pair: pair[1])
        cells.append(
            f"| {data} | `{model}`{told} | {statistics.fmean(row['trained']):.0f} | {row['likelihood']:.3f} | {row['mean']:.3f} | "
            f"{', '.join(f'{name} {rate:.3f}' for name, rate in rivals)} | "
            f"{row['mb_per_second']:.3g}, {row['mb_per_second_back']:.3g} | {row['weights'] / 1e6:.1f} |\n"
        )
    return head + "".join(cells)


if __name__ == "__main__":
    main()
