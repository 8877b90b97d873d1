"""Trainings killed at random moments, resumed, and compared with ones that nobody disturbed.

    python benchmarks/soak.py --kills 100

Kills (SIGKILL) fall at random times, and as often in the middle of writing a checkpoint, which here happens after
every step. Each killed run goes on with `--resume` until it is complete, if need be after further kills. Counts runs
that cannot be resumed, and those whose final weights are not those of the undisturbed run bit for bit; the exit code
is 1 if there are any. Ctrl-C or SIGTERM ends it early, with the counts so far; another `--seed` kills at other moments.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads do not survive a fork

import torch
from ledger import record

from pangen import files
from pangen.cli.main import main as program
from pangen.files import read_tensors
from pangen.folder import CHECKPOINT, WEIGHTS
from pangen.training import fit

MODELS = {
    "realnvp": ["moons", "--model.pairs", "1"],
    "vae": ["digits", "--model.latent", "2", "--training.ema", "0.9"],
    "gan": ["moons"],
    "rbm": ["digits", "--model.width", "16", "--model.temperatures", "20", "--model.chains", "8"],
    "kde": ["moons"],
}
STEPS = 16


def start(argv: list[str], said: Path, halt: int | None = None) -> int:
    """The process id of a command that saves after every step; `halt`: it is killed within its so-many-th write."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        fit.CHECKPOINT_SECONDS, fit.CHECKPOINT_SHARE = 0.0, math.inf
        if halt is not None:
            _kill_within(halt)
        with open(said, "w") as file, contextlib.redirect_stderr(file), contextlib.redirect_stdout(file):
            code = program(argv)
    finally:
        os._exit(code)


def _kill_within(count: int) -> None:
    """Let this process die between a file's first bytes and its last, or before its new name, the `count`-th time."""
    flush, left = os.fsync, [count]

    def die(handle: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.truncate(handle, os.fstat(handle).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        flush(handle)

    files.os.fsync = die


def warm(names: list[str], root: Path) -> None:
    """Import here, once, what every command would import for itself."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        for name in names:
            program(["fit", name, *MODELS[name], "--steps", "1", "-o", str(root / f"warm-{name}")])


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def weights(run: Path) -> dict[str, torch.Tensor]:
    """All that training decides: the kept weights, and the state of the last step."""
    found = dict(read_tensors(run / WEIGHTS)[0])
    return found | (read_tensors(run / CHECKPOINT)[0] if (run / CHECKPOINT).exists() else {})


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[name].numpy().tobytes() == b[name].numpy().tobytes() for name in a)


def disturbed(name: str, run: Path, seconds: float, dice: random.Random) -> tuple[int, str]:
    """Train with kills; how many there were, and what is wrong with the run, if anything."""
    kills, said = 0, run.parent / "said"
    most = dice.randint(1, 3)
    while True:
        resume = ["--resume"] if (run / "recipe.json").exists() else []
        argv = ["fit", name, *MODELS[name], "--steps", str(STEPS), "-o", str(run), *resume]
        within = kills < most and dice.random() < 0.5
        child = start(argv, said, dice.randint(1, 14) if within else None)
        if kills < most and not within:
            time.sleep(dice.random() * seconds)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        code = ended(child)
        if code == 0 or (code == 2 and "is complete" in said.read_text()):  # killed when all was written
            return kills, ""
        if code != -signal.SIGKILL:
            return kills, f"cannot go on ({code}): {said.read_text().strip()}"
        kills += 1


def refused(run: Path, said: Path) -> bool:
    """Whether a second training on the same folder is, while the first is at work."""
    argv = ["fit", "gan", "moons", "--steps", "100000", "-o", str(run)]
    first = start(argv, said)
    while not (run / "metrics.jsonl").exists():
        time.sleep(0.05)
    code = ended(start([*argv, "--resume"], said))
    os.kill(first, signal.SIGKILL)
    ended(first)
    return code == 2 and "another training" in said.read_text()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--models", default=",".join(MODELS), help="of these: " + ", ".join(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trial", action="store_true", help="record nothing")
    args = parser.parse_args()
    dice, began = random.Random(args.seed), time.perf_counter()
    names, kills, runs, unusable, different = args.models.split(","), 0, 0, 0, 0
    whole: dict[str, tuple[float, dict[str, torch.Tensor]]] = {}
    twice = None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt):
        root = Path(folder)
        warm(names, root)
        twice = refused(root / "twice", root / "said")
        while kills < args.kills:
            name = names[runs % len(names)]
            if name not in whole:
                since = time.perf_counter()
                argv = ["fit", name, *MODELS[name], "--steps", str(STEPS), "-o", str(root / name)]
                if ended(start(argv, root / "said")):
                    raise RuntimeError((root / "said").read_text())
                whole[name] = time.perf_counter() - since, weights(root / name)
            run = root / f"{name}-{runs}"
            count, trouble = disturbed(name, run, whole[name][0], dice)
            kills, runs = kills + count, runs + 1
            unusable += bool(trouble)
            wrong = not trouble and not same(weights(run), whole[name][1])
            different += wrong
            if trouble or wrong:
                print(f"{run.name}: {trouble or 'other weights than the undisturbed run'}", flush=True)
    if not args.trial:
        facts = {"seed": args.seed, "kills": kills, "runs": runs, "second_fit_refused": twice}
        seconds = time.perf_counter() - began
        record("soak", [unusable], metric="unusable runs", seconds=seconds, **facts)
        record("soak", [different], metric="runs of other weights", seconds=seconds, **facts)
    print(
        f"{kills} kills of {runs} runs: {unusable} unusable, {different} with other weights than an undisturbed run; "
        f"a second training on one folder was {'refused' if twice else 'let in'}."
    )
    return 1 if unusable or different or not twice else 0


if __name__ == "__main__":
    sys.exit(main())
