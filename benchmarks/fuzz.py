"""Inputs that no one meant to give: files and runs, bits of them flipped, cut, swapped or blown up.

    python benchmarks/fuzz.py --cases 10000

Every case runs one command in a process of its own, with 10 seconds of a processor and 2 GiB beyond what the program itself
takes. It may succeed, or end with code 2 and one sentence; a traceback, a hang, memory gone, another code, or
a file changed or left behind by a command that failed is a defect. Prints counts by kind and outcome, and of each
defect the case, which `--only N` runs again; the exit code is 1 if there is any.
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
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

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
SEEDS = ("image folder", "npy", "npz", "csv", "series", "txt", "lines", "tsv", "wav", "wav folder")
RUNS = {"image run": ("vae", "digits"), "text run": ("ngram", "text.txt"), "vector run": ("realnvp", "moons")}
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
            pangen.fit(model, source, steps=2, out=root / name, device="cpu")
    shutil.copytree(root / "vector run", root / "training")
    (root / "training" / "card.json").unlink()  # as if its process had been killed


def command(kind: str, folder: Path, dice: random.Random) -> list[str]:
    """What is asked of an input of this kind."""
    if kind in RUNS:
        verbs = {"sample": ["-n", "2"], **({} if kind == "text run" else {"encode": []})}
        verb = dice.choice(list(verbs))
        out = "out.txt" if kind == "text run" else "out.npy"
        return [verb, str(folder / kind), *verbs[verb], "-o", str(folder / out)]
    if kind == "training":
        return ["fit", "realnvp", "moons", "--resume", "-o", str(folder / kind)]
    source = next(folder.glob(f"{kind}*"))
    options = {"series": ["--series", "--window", "4"], "lines": ["--lines"], "wav": ["--seconds", "0.1"]}
    more = {"image folder": ["--size", "5x5"], "txt": ["--window", "7"], "wav folder": ["--rate", "700"]}
    given = options.get(kind, []) + (more.get(kind, []) if dice.random() < 0.5 else [])
    skip = ["--skip-bad"] if "folder" in kind and dice.random() < 0.3 else []
    return ["data", str(source), "--json", *given, *skip]


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


def run(argv: list[str], root: Path) -> tuple[str, str]:
    """The outcome of one command in a process of its own, and what it said."""
    said = root / "said"
    child = os.fork()
    if child == 0:
        code = 70
        try:
            with open(said, "w", errors="replace") as file, contextlib.redirect_stderr(file):
                taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
                used = time.process_time()
                resource.setrlimit(resource.RLIMIT_CPU, (int(used) + SECONDS + 1,) * 2)
                resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY,) * 2)
                with contextlib.redirect_stdout(io.StringIO()):
                    try:
                        code = program(argv)
                    except BaseException:
                        traceback.print_exc()
        finally:
            os._exit(code)
    until = time.monotonic() + PATIENCE
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hang", said.read_text()
        time.sleep(0.005)
    if os.WIFSIGNALED(ended[1]) and os.WTERMSIG(ended[1]) in (signal.SIGXCPU, signal.SIGKILL):
        return "hang", said.read_text()
    code, text = os.waitstatus_to_exitcode(ended[1]), said.read_text()
    told = [line for line in text.splitlines() if line.startswith("pangen: ")]
    if code == 0:
        return "success", text
    if code == 2 and len(told) == 1 and "Traceback" not in text:
        return "one sentence", text
    return "traceback" if "Traceback" in text else f"ended with {code}", text


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "said"}


def case(number: int, seeds: Path, root: Path) -> tuple[str, str, str, str]:
    """Kind, outcome, how it was spoilt and what was said, of one case."""
    dice = random.Random(number)
    kind = dice.choice((*SEEDS, *RUNS, *RUNS, "training"))
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for source in seeds.iterdir():
        if source.stem == kind:
            (shutil.copytree if source.is_dir() else shutil.copy)(source, root / source.name)
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.suffix != ".jsonl")
    chosen = dice.sample(files, min(dice.choice((1, 1, 1, 2)), len(files)))
    how = ", ".join(mutate(file, dice) for file in chosen)
    before = contents(root)
    argv = command(kind, root, dice)
    outcome, text = run(argv, root)
    if outcome == "one sentence" and contents(root) != before:
        outcome = "changed files"
    return kind, outcome, f"{how}: {' '.join(argv)}", text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--only", type=int, default=None, metavar="N", help="this case alone")
    parser.add_argument("--trial", action="store_true", help="record nothing")
    args = parser.parse_args()
    began, counts, defects = time.perf_counter(), Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        seeds, root = Path(folder) / "seeds", Path(folder) / "case"
        seeds.mkdir()
        prepare(seeds)
        for number in range(args.cases) if args.only is None else (args.only,):
            kind, outcome, how, text = case(number, seeds, root)
            counts[kind, outcome] += 1
            if outcome not in ("success", "one sentence") or args.only is not None:
                defects += outcome not in ("success", "one sentence")
                print(f"case {number}, {kind}: {outcome}: {how}\n{text}", flush=True)
    for (kind, outcome), count in sorted(counts.items()):
        print(f"{kind:14} {outcome:16} {count}")
    if args.only is None and not args.trial:
        record("fuzz", [defects], metric="defects", seconds=time.perf_counter() - began, cases=args.cases,
               outcomes=dict(Counter(outcome for _, outcome in counts.elements())))  # fmt: skip
    print(f"{defects} defects in {sum(counts.values())} cases.")
    return 1 if defects else 0


if __name__ == "__main__":
    sys.exit(main())
