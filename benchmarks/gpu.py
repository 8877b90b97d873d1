"""What Pangen makes of one GPU: shares of its peaks, steps a second, ratios to peers, and what compiling costs.

    python benchmarks/gpu.py                         all, within 9 minutes
    python benchmarks/gpu.py gpt decode --seconds 20
    python benchmarks/gpu.py --device cpu --tiny     tries the code where there is no GPU

`gpt`, `dit`: training steps, their products rounded to bfloat16; multiplications and additions as torch counts them in
the forward and backward pass, over the peak of dense bfloat16 products (45 % are wanted). `unet`: images a second of
`ddpm`. `decode`: bytes of weights and of keys and values that a token has to read, in float32 as texts are drawn, over the
bandwidth of the memory (65 %). `rbm`: updates a second of 784-500. `compile`: seconds of the first step of a compiled network, and how much
sooner a step then ends. `peers`: ratios to diffusers and Hugging Face GPT-2, as benchmarks/peers.py has them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from ledger import record
from peers import autoregressive, diffusion
from peers.pair import BOTH, FULL, parameters
from peers.turns import compare, finished
from torch.utils.flop_counter import FlopCounterMode

from pangen.data.batches import Piece
from pangen.families.autoregressive.gpt import GPT
from pangen.families.diffusion.ddpm import DDPM
from pangen.families.diffusion.flow_matching import FlowMatching
from pangen.families.energy.rbm import RBM
from pangen.model import GenerativeModel
from pangen.recipes import Training
from pangen.samplers.tokens import NextToken
from pangen.space import Batch, Progress, Space
from pangen.training.loop import State, train_step

PEAKS = {"H200": (989e12, 4.8e12), "H100": (989e12, 3.35e12), "A100": (312e12, 2.0e12), "L40S": (362e12, 0.864e12),
         "L4": (121e12, 0.3e12), "B200": (2250e12, 8.0e12)}  # fmt: skip
"""Operations of dense bfloat16 products and bytes of memory a second, as the maker states them."""
WARM = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)} (all)")
    parser.add_argument("--seconds", type=float, default=15.0, help="of measuring a task, once it is warm")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="small models, which tell nothing of speed")
    args = parser.parse_args()
    if unknown := set(args.tasks) - set(TASKS):
        parser.error(f"there is no task {', '.join(sorted(unknown))}; there are {', '.join(TASKS)}.")
    if args.device == "cuda" and not torch.cuda.is_available():
        print(
            "gpu.py: there is no GPU here; --device cpu --tiny tries the code without one.", file=sys.stderr
        )
        raise SystemExit(2)
    began = time.perf_counter()
    for name in args.tasks or TASKS:
        TASKS[name](args)
    print(f"{time.perf_counter() - began:.0f} seconds in all.")


def gpt(args: argparse.Namespace) -> None:
    length, batch = (64, 2) if args.tiny else (1024, 16)
    model = transformer(length, args.tiny, "bfloat16")
    x = torch.randint(model.space.levels, (batch, length))
    share(args, "gpt", model, Batch(x), batch * length, "tokens")


def dit(args: argparse.Namespace) -> None:
    side, batch, width, depth = (16, 2, 32, 1) if args.tiny else (32, 256, 768, 12)
    space = Space("real", (3, side, side), levels=256)
    model = FlowMatching(space, network="dit", width=width, depth=depth, patch=2, precision="bfloat16")
    share(args, "dit", model, Batch(2 * torch.rand(batch, *space.shape) - 1), batch, "images")


def unet(args: argparse.Namespace) -> None:
    side, batch, width = (16, 2, 64) if args.tiny else (32, 256, 1024)
    space = Space("real", (3, side, side), levels=256)
    model = DDPM(space, width=width, precision="bfloat16")
    share(args, "unet", model, Batch(2 * torch.rand(batch, *space.shape) - 1), batch, "images")


def share(
    args: argparse.Namespace, task: str, model: GenerativeModel, batch: Batch, count: int, what: str
) -> None:
    """Things trained a second, and what share of the peak that is."""
    model, batch = model.to(args.device), Batch(batch.x.to(args.device))
    with FlopCounterMode(display=False) as counter:
        model.loss(batch, Progress(0, 1)).total.backward()
    model.zero_grad(set_to_none=True)
    times = steps(args, model, batch)
    peak = peaks(args)[0]
    told(
        args, task, [count / t for t in times], f"{what} a second, one value a tenth of the time",
        parameters=parameters(model), peak_share=peak and round(counter.get_total_flops() / statistics.median(times) / peak, 3),
    )  # fmt: skip


def decode(args: argparse.Namespace) -> None:
    """Each token reads all weights, and the keys and values of those before it: on average half of the text's."""
    length, texts = (32, 2) if args.tiny else (1024, 64)
    model = transformer(length, args.tiny, "full").eval().requires_grad_(False).to(args.device)
    width, depth = model.transformer.blocks[0].attention.width, len(model.transformer.blocks)
    read = 4 * (parameters(model) + texts * depth * 2 * width * length / 2)

    def draw() -> None:
        generator = torch.Generator(args.device).manual_seed(0)
        for _ in NextToken().stream(
            model, texts, length, context=length, device=args.device, generator=generator
        ):
            pass

    times = [t / length for t in timed(draw, args.seconds, 1)]
    bandwidth = peaks(args)[1]
    told(
        args, "decode", [texts / t for t in times], "tokens a second, one value a text", texts=texts,
        bandwidth_share=bandwidth and round(read / statistics.median(times) / bandwidth, 3),
    )  # fmt: skip


def rbm(args: argparse.Namespace) -> None:
    x = (torch.rand(100, 1, 28, 28) < 0.2).float()
    model = RBM(Space("binary", (1, 28, 28), 2), width=500, chains=100)
    model.initialize(Batch(x))
    model, x = model.to(args.device), x.to(args.device)
    settings = Training(**{**RBM.training_defaults, "steps": 10**6, "batch": 100})
    times = steps(args, model, Batch(x), settings)
    told(args, "rbm", [1 / t for t in times], "updates a second, one value a tenth of the time")


def compiled(args: argparse.Namespace) -> None:
    """Of the U-Net; the loss around it stays as it is."""
    side, batch, width = (16, 2, 64) if args.tiny else (32, 256, 1024)
    space = Space("real", (3, side, side), levels=256)
    data = Batch(2 * torch.rand(batch, *space.shape, device=args.device) - 1)
    model = DDPM(space, width=width, precision="bfloat16").to(args.device)
    plain = statistics.median(steps(args, model, data))
    model.net.net.compile()
    began = finished()
    model.loss(data, Progress(0, 1)).total.backward()
    first = finished() - began
    model.zero_grad(set_to_none=True)
    times = steps(args, model, data)
    told(
        args, "compile", [plain / t for t in times], "a plain step's time over a compiled one's, one value a tenth",
        first_seconds=round(first, 1),
    )  # fmt: skip


def peers(args: argparse.Namespace) -> None:
    for kind in (diffusion, autoregressive):
        if args.tiny:
            kind.BATCH = 2
        for pair in kind.pairs():
            chosen = (
                pair.work == "training" and pair.precision in (FULL, BOTH) and pair.model != "flow-matching"
            )
            if chosen and pair.of in ("diffusers", "transformers") and not pair.peer.missing:
                compare(pair, 7, args.seconds / 30, "wall", args.device)


def transformer(length: int, tiny: bool, precision: str) -> GPT:
    """Of GPT-2's smallest size."""
    width, depth, heads, levels = (32, 2, 2, 65) if tiny else (768, 12, 12, 50304)
    space = Space("tokens", (length,), levels=levels)
    return GPT(space, width=width, depth=depth, heads=heads, dropout=0.0, precision=precision)


def steps(
    args: argparse.Namespace, model: GenerativeModel, batch: Batch, settings: Training | None = None
) -> list[float]:
    """Seconds of a training step, in each tenth of the time."""
    settings = settings or Training(lr=1e-4, steps=10**6)
    state = State.start(model.train(), settings)
    return timed(lambda: train_step(state, [Piece(batch)], settings), args.seconds, WARM)


def timed(work: Callable[[], object], seconds: float, warm: int) -> list[float]:
    """Seconds of a call, the mean over each tenth of all seconds, once it is warm."""
    for _ in range(warm):
        work()

    def tenth() -> float:
        began, calls = finished(), 0
        while calls == 0 or time.perf_counter() - began < seconds / 10:
            work()
            calls += 1
        return (finished() - began) / calls

    return [tenth() for _ in range(10)]


def peaks(args: argparse.Namespace) -> tuple[float | None, float | None]:
    """Of this GPU; None where it is not among those whose peaks are known."""
    name = torch.cuda.get_device_name() if args.device == "cuda" else ""
    return next((both for key, both in PEAKS.items() if key in name), (None, None))


def told(args: argparse.Namespace, task: str, values: list[float], metric: str, **facts: object) -> None:
    record(
        "gpu", values, task=task, **facts, device=args.device, tiny=args.tiny, metric=metric,
        median=round(statistics.median(values), 3), seconds=args.seconds,
    )  # fmt: skip


TASKS: dict[str, Callable[[argparse.Namespace], None]] = {
    "gpt": gpt, "dit": dit, "unet": unet, "decode": decode, "rbm": rbm, "compile": compiled, "peers": peers,
}  # fmt: skip


if __name__ == "__main__":
    main()
