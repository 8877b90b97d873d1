"""Inputs that no one meant to give: files and runs, bits of them flipped, cut, swapped or blown up.

    python benchmarks/fuzz.py --cases 10000

Every case runs one command, with 10 seconds of a processor and 2 GiB beyond what the program itself takes, in a
process that goes on with the next case unless one ends it. It may succeed, or end with code 2 and one sentence; a
traceback, a hang, memory gone, another code, or a file changed or left behind by a command that failed is a defect.
Prints counts by kind and outcome, and of each defect the case, which `--only N` runs again; the exit code is 1 if
there is any. Ctrl-C or SIGTERM ends it early, with the counts so far; `--first N` goes on from there.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tarfile
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads do not survive a fork

import numpy as np
from ledger import record
from PIL import Image

import pangen
from pangen.cli.main import main as program
from pangen.data.sound import wav

SECONDS, MEMORY = 10, 2 << 30
PATIENCE = 6 * SECONDS
"""Seconds on the clock, for a command that waits, or has a busy machine."""
WORKS = 200
"""Cases that one process takes at most, so that what it keeps stays little."""
SEEDS = (
    "image folder",
    "captions",
    "archive",
    "npy",
    "npz",
    "csv",
    "series",
    "txt",
    "lines",
    "tsv",
    "wav",
    "wav folder",
)
STORED = ("image folder", "captions", "archive", "npy")
"""What can stay on disk."""
RUNS = {
    "image run": ("vae", "digits"),
    "text run": ("ngram", "text.txt"),
    "vector run": ("realnvp", "moons"),
    "subword run": ("gpt", "text.txt"),
}
SETTINGS = {
    "subword run": {"model.width": 16, "model.depth": 1, "codec.name": "bpe", "codec.vocabulary": 258}
}
NUMBERS = (0, -1, 1, 2, 0.5, -0.5, 1e30, -1e30, 10**6, 10**12, 2**63, 10**400, float("nan"), float("inf"))
THINGS = (
    None,
    True,
    "",
    "x",
    "../../etc/passwd",
    [],
    {},
    [[]],
    [0],
    [10**9],
    {"name": "x"},
    "\u0000",
    "\ud83d",
)


def prepare(root: Path) -> None:
    """One sound example of each kind of input."""
    noise = np.random.default_rng(0)
    for i in range(12):
        place = root / "image folder" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = noise.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{i}.{'jpg' if i % 3 else 'png'}")
        (root / "captions").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / "captions" / f"{i}.png")
        (root / "captions" / f"{i}.txt").write_text(f"picture {i}")
    with tarfile.open(root / "archive.tar", "w") as archive:
        for path in sorted((root / "captions").iterdir()):
            archive.add(path, path.name)
    x = noise.normal(size=(60, 3)).astype(np.float32)
    np.save(root / "npy.npy", x)
    np.savez_compressed(root / "npz.npz", x=noise.integers(0, 256, (40, 5, 5)), y=np.arange(40) % 2)
    table = "\n".join(",".join(f"{v:.3f}" for v in row) for row in x)
    (root / "csv.csv").write_text(f"height,weight,age\n{table}\n")
    times = (f"2020-01-{i // 24 + 1:02d} {i % 24:02d}:00:00,{v[0]:.3f}" for i, v in enumerate(x))
    (root / "series.csv").write_text("time,load\n" + "\n".join(times) + "\n")
    text = "the quick brown fox jumps over the lazy dög\n" * 30
    for name in ("txt", "lines", "text"):
        (root / f"{name}.txt").write_text(text)
    (root / "tsv.tsv").write_text("".join(f"ab{i}\tba{i}\n" for i in range(30)))
    import torch

    clip = torch.linspace(-1, 1, 4000)
    (root / "wav.wav").write_bytes(wav([clip] * 4, 1000))
    (root / "wav folder").mkdir()
    for i in range(12):
        (root / "wav folder" / f"{i}.wav").write_bytes(wav([clip[: 100 + i]], 1000))
    with contextlib.redirect_stderr(io.StringIO()):
        for name, (model, data) in RUNS.items():
            source = str(root / data) if "." in data else data
            pangen.fit(model, source, steps=2, out=root / name, device="cpu", recipe=SETTINGS.get(name))
        pangen.compress(root / "text run", root / "lines.txt", root / "compressed.pgn")
    np.save(root / "codes.npy", noise.normal(size=(3, 32)).astype(np.float32))
    shutil.copytree(root / "vector run", root / "training")
    (root / "training" / "card.json").unlink()  # as if its process had been killed


def command(kind: str, folder: Path, seeds: Path, dice: random.Random) -> list[str]:
    """What is asked of an input of this kind."""
    if kind in RUNS:
        text = RUNS[kind][1] == "text.txt"
        verbs = {"sample": ["-n", "2"], **({} if text else {"encode": []})}
        verb = dice.choice(list(verbs))
        return [
            verb,
            str(folder / kind),
            *verbs[verb],
            "-o",
            str(folder / ("out.txt" if text else "out.npy")),
        ]
    if kind == "codes":
        return ["decode", str(seeds / "image run"), str(folder / "codes.npy"), "-o", str(folder / "out.npy")]
    if kind == "compressed":
        given = ["--run", str(seeds / "text run"), "-o", str(folder / "out")]
        return ["decompress", str(folder / "compressed.pgn"), *given]
    if kind == "training":
        return ["fit", "realnvp", "moons", "--resume", "-o", str(folder / kind)]
    source = next(folder.glob(f"{kind}*"))
    options = {"series": ["--series", "--window", "4"], "lines": ["--lines"], "wav": ["--seconds", "0.1"]}
    more = {"image folder": ["--size", "5x5"], "txt": ["--window", "7"], "wav folder": ["--rate", "700"]}
    given = options.get(kind, []) + (more.get(kind, []) if dice.random() < 0.5 else [])
    skip = ["--skip-bad"] if "folder" in kind and dice.random() < 0.3 else []
    stored = ["--stored"] if kind in STORED and dice.random() < 0.4 else []
    return ["data", str(source), "--json", *given, *skip, *stored]


def mutate(path: Path, dice: random.Random) -> str:
    """Spoil one file; returns how."""
    raw = bytearray(path.read_bytes())
    ways: dict[str, Callable[[], bytes]] = {
        "flip": lambda: _flipped(raw, dice),
        "header": lambda: _flipped(raw[:64], dice) + raw[64:],
        "cut": lambda: raw[: dice.randrange(len(raw) + 1)],
        "double": lambda: raw + raw[dice.randrange(len(raw) or 1) :],
        "nonsense": lambda: dice.randbytes(dice.randrange(300)),
        "splice": lambda: _spliced(raw, dice),
        "number": lambda: _renumbered(raw, dice),
        "nested": lambda: b"[" * 100_000,
        "empty": lambda: b"",
    }
    if path.suffix == ".json":
        ways |= {
            name: lambda: _other_json(raw, dice)
            for name in ("json", "json again", "json too", "json as well")
        }
    if path.suffix == ".safetensors":
        ways |= {name: lambda: _other_tensors(raw, dice) for name in ("tensors", "tensors again")}
    way = dice.choice(list(ways))
    path.write_bytes(bytes(ways[way]()))
    return f"{way} {path.name}"


def _flipped(raw: bytes | bytearray, dice: random.Random) -> bytes:
    found = bytearray(raw)
    for _ in range(dice.choice((1, 1, 3, 20)) if found else 0):
        found[dice.randrange(len(found))] ^= 1 << dice.randrange(8)
    return bytes(found)


def _spliced(raw: bytearray, dice: random.Random) -> bytes:
    """Bytes from one place put in another."""
    a, b = (dice.randrange(len(raw) + 1) for _ in range(2))
    piece = dice.choice(
        (raw[a : a + 8], b"nan", b"inf", b"\x00" * 9, b"\xff" * 4, b"1e999", b"\n", b",", b'"', "é".encode())
    )
    return bytes(raw[:b] + piece + raw[b + len(piece) * dice.randrange(2) :])


def _renumbered(raw: bytearray, dice: random.Random) -> bytes:
    """A binary whole number in the header, such as a size, made another."""
    at, code = dice.randrange(min(len(raw), 200) + 1), dice.choice(("<I", ">I", "<Q", "<H"))
    value = dice.choice((0, 1, 2**15, 2**31, 2**32 - 1, 2**63)) % 256 ** struct.calcsize(code)
    return bytes(raw[:at] + struct.pack(code, value) + raw[at + struct.calcsize(code) :])


def _other_json(raw: bytearray, dice: random.Random) -> bytes:
    """One value, somewhere in it, another; or gone."""
    tree = json.loads(raw)
    places = []

    def walk(node: object) -> None:
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    walk(tree)
    if not places:
        return b"[]"
    node, key = dice.choice(places)
    if dice.random() < 0.15:
        del node[key]
    else:
        node[key] = dice.choice(NUMBERS + THINGS)
    return json.dumps(tree).encode("utf-8", "surrogatepass")


def _other_tensors(raw: bytearray, dice: random.Random) -> bytes:
    """The header, or the values of a tensor, changed by someone who knows the format, and no checksum."""
    size = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    metadata = header.get("__metadata__", {})
    if "json" in metadata:
        metadata["json"] = metadata["json"][metadata["json"].find("{") :]
    if "json" in metadata and dice.random() < 0.4:
        metadata["json"] = _other_json(bytearray(metadata["json"].encode()), dice).decode("utf-8", "replace")
    elif dice.random() < 0.3:
        data = bytearray(dice.choice((b"\x00", b"\xff", b"\x7f")) * len(data))
    elif dice.random() < 0.5:
        name = dice.choice([key for key in header if key != "__metadata__"])
        header[dice.choice(("x", "model/x", "optimizer/x/9/y"))] = header.pop(name)
    else:
        header = json.loads(_other_json(bytearray(json.dumps(header).encode()), dice))
    changed = json.dumps(header).encode("utf-8", "replace")
    return len(changed).to_bytes(8, "little") + changed + data


class Outcome(NamedTuple):
    """Of one case."""

    number: int
    kind: str
    name: str
    how: str
    """How its input was spoilt, and the command."""
    said: str


def asked(argv: list[str], said: Path) -> tuple[str, str]:
    """The outcome of one command, and what it said."""
    code = 70
    with (
        open(said, "w", errors="replace") as file,
        contextlib.redirect_stderr(file),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        try:
            code = program(argv)
        except BaseException:
            traceback.print_exc()
    text = said.read_text()
    told = [line for line in text.splitlines() if line.startswith("pangen: ")]
    if code == 0:
        return "success", text
    if code == 2 and len(told) == 1 and "Traceback" not in text:
        return "one sentence", text
    return "traceback" if "Traceback" in text else f"ended with {code}", text


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "said"}


class Case:
    """One input, spoilt in its own way, and the command it is given to."""

    def __init__(self, number: int, seeds: Path, root: Path) -> None:
        self.number, self.seeds, self.root = number, seeds, root
        self.dice = random.Random(number)
        self.kind = self.dice.choice((*SEEDS, *RUNS, *RUNS, "training", "codes", "compressed"))

    def run(self) -> Outcome:
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        for source in self.seeds.iterdir():
            if source.stem == self.kind:
                (shutil.copytree if source.is_dir() else shutil.copy)(source, self.root / source.name)
        files = sorted(p for p in self.root.rglob("*") if p.is_file() and p.suffix != ".jsonl")
        chosen = self.dice.sample(files, min(self.dice.choice((1, 1, 1, 2)), len(files)))
        how = ", ".join(mutate(file, self.dice) for file in chosen)
        before = contents(self.root)
        argv = command(self.kind, self.root, self.seeds, self.dice)
        name, text = asked(argv, self.root / "said")
        if name == "one sentence" and contents(self.root) != before:
            name = "changed files"
        return Outcome(self.number, self.kind, name, f"{how}: {' '.join(argv)}", text)


def work(numbers: Sequence[int], seeds: Path, root: Path, pipe: int) -> None:
    """Run cases in this process, each within its limits, and tell of each."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY,) * 2)
    for number in numbers:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # when one of these runs out the process ends
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        told = Case(number, seeds, root).run()
        os.write(pipe, json.dumps(told).encode() + b"\n")


def outcomes(numbers: Sequence[int], seeds: Path, root: Path) -> Iterator[Outcome]:
    """Of each case in turn; one that ends its process, or does not end, is told by its remains."""
    done = 0
    while done < len(numbers):
        reading, writing = os.pipe()
        batch = numbers[done : done + WORKS]
        end = done + len(batch)
        child = os.fork()
        if child == 0:
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                work(batch, seeds, root, writing)
            finally:
                os._exit(70)
        os.close(writing)
        try:
            with os.fdopen(reading) as lines:
                for line in lines:
                    done += 1
                    yield Outcome(*json.loads(line))
        except BaseException:
            os.kill(child, signal.SIGKILL)
            raise
        finally:
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if done < end:
            name = "hang" if -code in (signal.SIGPROF, signal.SIGALRM) else f"ended with {code}"
            last = Case(batch[done - end], seeds, root)
            yield Outcome(last.number, last.kind, name, "`--only` tells more", (root / "said").read_text())
            done += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the number of the first case")
    parser.add_argument("--only", type=int, default=None, metavar="N", help="this case alone")
    parser.add_argument("--trial", action="store_true", help="record nothing")
    args = parser.parse_args()
    numbers = range(args.first, args.first + args.cases) if args.only is None else (args.only,)
    began, counts, defects = time.perf_counter(), Counter(), 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt):
        seeds, root = Path(folder) / "seeds", Path(folder) / "case"
        seeds.mkdir()
        prepare(seeds)
        for told in outcomes(numbers, seeds, root):
            counts[told.kind, told.name] += 1
            defect = told.name not in ("success", "one sentence")
            defects += defect
            if defect or args.only is not None:
                print(f"case {told.number}, {told.kind}: {told.name}: {told.how}\n{told.said}", flush=True)
    for (kind, outcome), count in sorted(counts.items()):
        print(f"{kind:14} {outcome:16} {count}")
    if args.only is None and not args.trial:
        record("fuzz", [defects], metric="defects", seconds=time.perf_counter() - began, first=args.first,
               cases=sum(counts.values()), outcomes=dict(Counter(name for _, name in counts.elements())))  # fmt: skip
    print(f"{defects} defects in {sum(counts.values())} cases.")
    return 1 if defects else 0


if __name__ == "__main__":
    sys.exit(main())
