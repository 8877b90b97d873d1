"""Data larger than memory: what a training on a file of 20 GB holds, and how fast it reads, beside one from memory.

    OMP_NUM_THREADS=1 python benchmarks/stored.py
    python benchmarks/stored.py --gigabytes 1 --trial

Writes images 28x28 of 64 kinds with noise, no two alike, to an .npy file, in blocks, and removes it in the end. Trains a
`vae` of perceptrons on it, then reads the examples of an epoch in their order, for so many seconds at most. Anonymous
memory is what no file stands behind: it cannot be given back, and must not grow with the data. Pages of the file that
were read count as resident as long as nothing else wants the room; they are told beside it.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
from ledger import record

import pangen
from pangen.data import Data, load_data, memory_data
from pangen.data.order import order_of

SIDE, KINDS = 28, 64
BLOCK, SHIFT = 50_000, 97
"""Images that are made at a time, and how far the noise moves from one block to the next."""
SMALL = 100_000
"""Images in memory, to compare with."""
BATCH = 128
RECIPE = {
    "model.network": "mlp",
    "training.batch": BATCH,
    "training.validations": 1,
    "training.validation_examples": 100,
}
MOST = 100
"""MiB of anonymous memory by which the training may grow."""


def held(kind: str = "RssAnon") -> float:
    """MiB that this process holds: anonymous, or of files (RssFile)."""
    found = re.search(rf"{kind}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024


def images(n: int) -> Iterator[np.ndarray]:
    """Blocks of rough pictures, 4 x 4 squares with noise over them, which is another in each; one block's room for all."""
    draw = np.random.default_rng(0)
    kinds = draw.integers(0, 2, (KINDS, 4, 4), dtype=np.uint8) * 160
    large = kinds.repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
    pictures = large[draw.integers(0, KINDS, BLOCK)].reshape(-1)
    grain = draw.integers(0, 64, len(pictures) + SHIFT * (n // BLOCK + 1), dtype=np.uint8)
    room = np.empty_like(pictures)
    for number, start in enumerate(range(0, n, BLOCK)):
        np.add(pictures, grain[SHIFT * number :][: len(pictures)], out=room)
        yield room.reshape(-1, SIDE, SIDE)[: n - start]


def write(path: Path, n: int) -> None:
    with open(path, "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (n, SIDE, SIDE)}
        np.lib.format.write_array_header_1_0(file, header)
        for block in images(n):
            file.write(block.data)


def train(data: Data, steps: int) -> dict[str, Any]:
    """Anonymous MiB at the second step, at most and at the end; examples a second after the first tenth."""
    seen: list[tuple[float, float]] = []
    pangen.fit("vae", data, steps=steps, recipe=RECIPE, device="cpu",
               report=lambda event: seen.append((held(), event.seconds)) if event.step else None)  # fmt: skip
    first = len(seen) // 10
    speed = BATCH * (len(seen) - 1 - first) / (seen[-1][1] - seen[first][1])
    memory = [mib for mib, _ in seen]
    return {"start": memory[1], "most": max(memory), "end": memory[-1], "speed": speed}


def read(data: Data, seconds: float) -> dict[str, float]:
    """Examples of an epoch in their order, a batch at a time."""
    order, n = order_of(len(data.train), 0, stored=data.train.stored), len(data.train)
    before, began, done = held(), time.perf_counter(), 0
    while done < n and time.perf_counter() - began < seconds:
        data.train.take(order.at(0, done, min(done + BATCH, n)))
        done += BATCH
    took, done = time.perf_counter() - began, min(done, n)
    return {"share": done / n, "speed": done / took, "grown": held() - before, "seconds": took}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=20)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=300, help="of reading, at most")
    parser.add_argument("--folder", type=Path, help="where there is room for the file")
    parser.add_argument("--trial", action="store_true", help="record nothing")
    args = parser.parse_args()
    began, n = time.perf_counter(), int(args.gigabytes * 1e9) // SIDE**2
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "images.npy"
        write(path, n)
        written = time.perf_counter() - began
        start, clock = held(), time.perf_counter()
        data = load_data(path, stored=True)
        loading, loaded = time.perf_counter() - clock, held() - start
        on_disk, reading = train(data, args.steps), read(data, args.seconds)
        of_file, everything = held("RssFile"), held()
        del data
    small = memory_data(np.concatenate([block.copy() for block in images(SMALL)]))
    in_memory, again = train(small, args.steps), read(small, args.seconds)
    facts = {
        "data": f"{n:,} images {SIDE}x{SIDE}, {args.gigabytes:g} GB", "steps": args.steps,
        "training": {k: round(v, 1) for k, v in on_disk.items()},
        "reading": {k: round(v, 3) for k, v in reading.items()},
        "loading": {"seconds": round(loading, 2), "grown": round(loaded, 1)},
        "end": {"anonymous": round(everything, 1), "of files": round(of_file, 1)},
        "in memory": {"data": f"{SMALL:,} images", "training": {k: round(v, 1) for k, v in in_memory.items()},
                      "reading": {k: round(v, 3) for k, v in again.items()}},
        "writing": round(written, 1),
    }  # fmt: skip
    growth = on_disk["most"] - on_disk["start"] + max(reading["grown"], 0)
    for name, value in facts.items():
        print(f"{name}: {value}", flush=True)
    print(f"anonymous memory grew by {growth:.1f} MiB: {'flat' if growth < MOST else 'NOT FLAT'}", flush=True)
    if not args.trial:
        record("stored", [growth], metric="MiB of anonymous memory, growth from the second step to the end of reading",
               seconds=time.perf_counter() - began, **facts)  # fmt: skip


if __name__ == "__main__":
    main()
