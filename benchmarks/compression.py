"""Likelihoods as files: what each model makes of held-out data, beside other programs, with the time both ways.

    PANGEN_DATA=... python benchmarks/compression.py text --budget 5m
    PANGEN_DATA=... python benchmarks/compression.py made pixelcnn vae --data digits --budget 5m
    PANGEN_DATA=... python benchmarks/compression.py vae hvae --data mnist-binary-static --budget 20m
    PANGEN_DATA=... python benchmarks/compression.py vae hvae pixelcnn --data mnist --budget 20m --examples 1000
    PANGEN_DATA=... python benchmarks/compression.py pixelcnn --data cifar10-lossless-4k --budget 60m
    PANGEN_DATA=... python benchmarks/compression.py wavenet --budget 20m --examples 60

`text` is `gpt` on tinyshakespeare as `gpt_text.py own` trains it. Test files are written by the first `--examples` of the
test split, compressed, decompressed and compared; a file that does not come back ends the benchmark. Bits a
dimension are of the whole file, header and initial bits and all, without the weights, whose bytes are recorded beside. Run folders under `runs/` are kept,
and one that is complete is not trained again.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from gpt_text import OWN, OWN_WINDOW
from kept import trained
from ledger import record

import pangen
from pangen.cli.options import seconds
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
DATA = {"gpt": "tinyshakespeare", "wavenet": "fsdd"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--budget", type=seconds, default=300.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    names = ["gpt" if name == "text" else name for name in args.models]
    rates = {name: measured(name, args) for name in names}
    best = min(rates, key=lambda name: rates[name]["pangen"])
    others = {name: rate for name, rate in rates[best].items() if name != "pangen"}
    least = min(others, key=others.__getitem__)
    word = "wins" if rates[best]["pangen"] < others[least] else "loses"
    print(
        f"{best} {word} against {least}: {rates[best]['pangen']:.3f} against {others[least]:.3f} bits a dimension, weights not counted."
    )


def measured(name: str, args: argparse.Namespace) -> dict[str, float]:
    """Bits a dimension of the test examples by one model, a mean over seeds, and by other programs."""
    kind = DATA.get(name, args.data)
    options = {"window": OWN_WINDOW} if kind == "tinyshakespeare" else {}
    data, found = pangen.load_data(kind, **options), []
    for seed in range(args.seeds):
        run = trained(
            name, data, f"compression-{name}-{kind}-{args.budget:g}s-{seed}", budget=args.budget, seed=seed,
            conditional=False, recipe=FIELDS.get(name, {}),
        )  # fmt: skip
        found.append(there_and_back(run, data, args.examples))
    one = found[0]
    facts = {key: one[key] for key in ("bytes", "weights", "initial", "over_model")}
    speed = {key: round(min(f[key] for f in found), 4) for key in ("mb_per_second", "mb_per_second_back")}
    record(
        "compression", [f["rates"]["pangen"] for f in found], model=name, data=kind, budget=args.budget, **facts,
        **speed, others={k: round(v, 4) for k, v in one["rates"].items() if k != "pangen"},
        metric="bits a dimension of the file", seconds=sum(f["seconds"] for f in found),
    )  # fmt: skip
    return {**one["rates"], "pangen": float(np.mean([f["rates"]["pangen"] for f in found]))}


def there_and_back(run: Run, data: Data, n: int) -> dict[str, Any]:
    """The report of compressing test examples, with bits a dimension of each way to write them."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        raw = written(place / "in", data, n)
        report = pangen.compress(run, place / "in", place / "x.pgn", report=True)
        back = pangen.decompress(place / "x.pgn", place / "out", run=run)
        for path in (place / "in").iterdir():
            assert (place / "out/in" / path.name).read_bytes() == path.read_bytes(), path.name
    dims = len(raw) if isinstance(raw, str) else run.codec.dims(raw)
    sizes = {"pangen": report["compressed"], **report["others"]}
    rates = {name: 8 * size / dims for name, size in sizes.items()}
    return {**report, "mb_per_second_back": back["mb_per_second"], "rates": rates}


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


if __name__ == "__main__":
    main()
