"""WaveNet on spoken digits (`fsdd`, the official split): likelihood, samples that are recognised, speed of sampling.

    python benchmarks/wavenet_fsdd.py likelihood --budget 60m --seeds 3
    python benchmarks/wavenet_fsdd.py recognised --budget 60m --seeds 3
    python benchmarks/wavenet_fsdd.py speed

All numbers of `likelihood` are bits for each sample of 8-bit mu-law sound on the 300 test clips, a clip's end counted
as one more sample. The yardstick is linear prediction of order 16 with a Laplace residual: a sample is predicted from
the decoded ones before it, and the residual's law is integrated over each of the 256 bins, so that its bits are of the
same thing. Coefficients and scale are fitted on the training split: one scale for all samples, as the classical codec
has it, and one that follows the loudness of the last residuals, which is the harder to beat. The ends of clips cost it
what a log-normal law of their lengths says.

`recognised` trains a classifier on log-mel spectrograms of real training clips, which have passed the mu-law, and asks
it for the digits of real test clips and of samples drawn with `--given`. It takes the runs of `likelihood`, which are
kept under `runs/`, and makes those that are missing.

`speed` draws 4,000 samples with rings, and times what each sample would cost without: a pass over all samples before
it, or over those in reach alone. Weights are as they start: they do not matter here.
"""

from __future__ import annotations

import argparse
import math
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from kept import trained
from ledger import interval, record
from torch import Tensor

import pangen
from pangen.cli.options import seconds
from pangen.codecs.sound import LEVELS, MuLaw, amplitude, expand, quantise
from pangen.data import Data
from pangen.evaluation.sound import log_mel
from pangen.families.autoregressive.wavenet import WaveNet
from pangen.run import Run
from pangen.samplers.tokens import NextToken
from pangen.space import Space

ORDER = 16
LENGTH = 4000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("likelihood", "recognised", "speed"))
    parser.add_argument("--budget", type=seconds, default=3600.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=300, help="of the test split, from its first")
    parser.add_argument("--samples", type=int, default=20, help="of each digit")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("FIELD", "VALUE"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    {"likelihood": likelihood, "recognised": recognised, "speed": speed}[args.what](args)


def run_of(args: argparse.Namespace, data: Data, seed: int) -> Run:
    """The run of a seed."""
    changed = "".join(f"-{name.rpartition('.')[2]}={value}" for name, value in args.set)
    return trained(
        "wavenet", data, f"wavenet-fsdd-{args.budget:.0f}s{changed}-{seed}",
        budget=args.budget, seed=seed, recipe=dict(args.set), device=args.device,
    )  # fmt: skip


def likelihood(args: argparse.Namespace) -> None:
    data, began = pangen.load_data("fsdd"), time.perf_counter()
    x, y = data.test.x[: args.examples], data.test.y[: args.examples]
    found: dict[str, list[float]] = {"log p(x)": [], "log p(x given digit)": []}
    right, steps = [], []
    for seed in range(args.seeds):
        run = run_of(args, data, seed)
        bits = math.log(2) * run.codec.dims(x)
        joint = run.joint_log_prob(x).nats
        found["log p(x)"].append(-float(joint.logsumexp(1).sum()) / bits)
        own = (joint - run.codec.label_log_prior).gather(1, y[:, None])
        found["log p(x given digit)"].append(-float(own.sum()) / bits)
        right.append(float((joint.argmax(1) == y).double().mean()))
        steps.append(run.card["steps"])
        print(f"seed {seed}: {found['log p(x)'][-1]:.4f} bits/sample, {steps[-1]} steps", flush=True)
    facts = {"budget": args.budget, "examples": len(x), "changed": dict(args.set), "steps": steps}
    for name, values in found.items():
        record(
            "wavenet_fsdd", values, model="wavenet", metric=f"bits/sample of 8-bit mu-law, {name}", **facts,
            recognised_by_bayes=right, seconds=time.perf_counter() - began,
        )  # fmt: skip
    began = time.perf_counter()
    best = math.inf
    for adaptive in (False, True):
        bits = linear_prediction(data, x, adaptive)
        best = min(best, bits)
        record(
            "wavenet_fsdd", [bits], model=f"linear prediction of order {ORDER}, Laplace residual",
            scale="of the last residuals" if adaptive else "one", examples=len(x),
            metric="bits/sample of 8-bit mu-law, log p(x)", seconds=time.perf_counter() - began,
        )  # fmt: skip
    mean, low, high = interval(found["log p(x)"])
    verdict = "wins" if high < best else "loses" if low > best else "cannot be told apart"
    print(
        f"wavenet ({mean:.3f} [{low:.3f}, {high:.3f}] bits/sample) {verdict} against linear prediction ({best:.3f})."
    )


class Frames:
    """Clips as linear prediction sees them: levels, their amplitudes, and the ORDER amplitudes before each."""

    def __init__(self, clips: tuple[Tensor, ...]) -> None:
        self.lengths = torch.tensor([len(clip) for clip in clips]).double()
        levels = [quantise(clip) for clip in clips]
        self.level = torch.cat(levels)
        before = []
        for level in levels:
            x = torch.nn.functional.pad(amplitude(level.double()), (ORDER, 0))
            before.append(x.unfold(0, ORDER + 1, 1))
        rows = torch.cat(before)
        self.past, self.x = rows[:, :-1], rows[:, -1]
        self.first = torch.cat([torch.arange(len(level)) == 0 for level in levels])


def linear_prediction(data: Data, x: tuple[Tensor, ...], adaptive: bool) -> float:
    """Bits a sample of test clips, all that is free fitted on the training split."""
    train, test = Frames(data.train.x), Frames(x)
    weights = torch.linalg.lstsq(train.past, train.x[:, None]).solution[:, 0]
    if adaptive:  # else the loudest clips alone decide
        about = 2.0**-11 + loudness((train.x - train.past @ weights).abs(), train.first, 0.9)[:, None]
        weights = torch.linalg.lstsq(train.past / about, train.x[:, None] / about).solution[:, 0]
    some = slice(0, 400_000)  # settings of the scale need no more

    def nats(frames: Frames, part: slice, scale: float, share: float, decay: float) -> Tensor:
        mean = frames.past[part] @ weights
        followed = loudness((frames.x[part] - mean).abs(), frames.first[part], decay) if adaptive else 0.0
        return -log_laplace(frames.level[part], mean, scale + share * followed)

    grid = [
        (scale, share, decay)
        for scale in (
            [2.0**-k for k in range(9, 15)] if adaptive else [2.0 ** (-k / 4) for k in range(16, 48)]
        )
        for share in ((0.6, 0.8, 1.0, 1.2) if adaptive else (0.0,))
        for decay in ((0.9, 0.95, 0.98) if adaptive else (0.0,))
    ]
    setting = min(grid, key=lambda s: float(nats(train, some, *s).sum()))
    every = slice(None)
    log = train.lengths.log()
    ends = -log_normal(test.lengths, float(log.mean()), float(log.std()))
    samples = len(test.x) + len(test.lengths)
    print(f"linear prediction: scale, share, decay = {setting}", flush=True)
    return float(nats(test, every, *setting).sum() + ends.sum()) / (math.log(2) * samples)


def loudness(e: Tensor, first: Tensor, decay: float) -> Tensor:
    """The weighted mean of |residuals| before each sample, weights falling by `decay`; a clip starts at 0."""
    from scipy.signal import lfilter

    pieces = []
    for piece in torch.tensor_split(e, first.nonzero().flatten()[1:]):
        mean = torch.from_numpy(lfilter([1 - decay], [1, -decay], piece.numpy()))
        pieces.append(torch.nn.functional.pad(mean[:-1], (1, 0)))
    return torch.cat(pieces)


def log_laplace(level: Tensor, mean: Tensor, scale: Tensor | float) -> Tensor:
    """log of the mass of a Laplace law in each level's bin; the first and the last reach to infinity."""
    edges = expand((2 * torch.arange(LEVELS + 1).double() - 1) / (LEVELS - 1) - 1)
    edges[0], edges[-1] = -math.inf, math.inf
    low, high = ((edges[level + i] - mean) / scale for i in (0, 1))
    swap = low > 0  # the law is symmetric: bins above the mean as those below it, where nothing cancels
    low, high = torch.where(swap, -high, low), torch.where(swap, -low, high)
    below = 0.5 * low.clamp(max=0).exp()
    above = torch.where(high <= 0, 0.5 * high.clamp(max=0).exp(), 1 - 0.5 * (-high.clamp(min=0)).exp())
    return (above - below).clamp(min=1e-300).log()


def log_normal(n: Tensor, mean: float, std: float) -> Tensor:
    """log of the mass of a log-normal law on each whole number n."""
    law = torch.distributions.Normal(mean, std)
    return (law.cdf((n + 0.5).log()) - law.cdf((n - 0.5).log())).log()


def recognised(args: argparse.Namespace) -> None:
    from sklearn.svm import SVC

    data, began = pangen.load_data("fsdd"), time.perf_counter()
    codec = MuLaw.fit(data)
    real = {
        name: log_mel(codec.decode(codec.encode(split.x).x), data.rate).numpy()
        for name, split in (("train", data.train), ("test", data.test))
    }
    classifier = SVC(C=10.0).fit(real["train"], data.train.y.numpy())
    on_real = float((classifier.predict(real["test"]) == data.test.y.numpy()).mean())
    print(f"real test clips: {on_real:.3f}", flush=True)
    given, found = torch.arange(10).repeat(args.samples), []
    for seed in range(args.seeds):
        clips = run_of(args, data, seed).sample(len(given), given, seed=seed)
        said = classifier.predict(log_mel(clips, data.rate).numpy())
        found.append(float((said == given.numpy()).mean()))
        print(f"samples of seed {seed}: {found[-1]:.3f}", flush=True)
    record(
        "wavenet_fsdd", found, model="wavenet", budget=args.budget, changed=dict(args.set), samples=len(given),
        classifier="support vectors on log-mel spectrograms", real_test_clips=on_real,
        metric="share of samples recognised as the digit given", seconds=time.perf_counter() - began,
    )  # fmt: skip
    mean, low, high = interval(found)
    print(
        f"{mean:.1%} [{low:.1%}, {high:.1%}] of samples are recognised, and {on_real:.1%} of real test clips."
    )


def speed(args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    model = WaveNet(Space("tokens", (LENGTH,), LEVELS)).eval().requires_grad_(False)
    model.to("cuda" if torch.cuda.is_available() and args.device == "auto" else "cpu")
    for streams in (1, 16, 64):
        began, cached = time.perf_counter(), []
        for seed in range(args.seeds):
            generator = torch.Generator(model.device).manual_seed(seed)
            steps = NextToken()(model, streams, LENGTH, device=model.device, generator=generator)
            cached.append(timed(lambda steps=steps: sum(1 for _ in steps)))
        record(
            "wavenet_fsdd", [streams * LENGTH / s for s in cached], model="wavenet", streams=streams, length=LENGTH,
            metric="samples a second with rings, all streams together", seconds=time.perf_counter() - began,
        )  # fmt: skip
        each = interval(cached)[0]
        print(f"  a stream runs at {LENGTH / each / 8000:.2f} times real time of 8 kHz")
        if streams == 1:
            naive(args, model, cached)


def naive(args: argparse.Namespace, model: WaveNet, cached: list[float]) -> None:
    """What LENGTH samples of one stream cost without rings: one step timed at 9 lengths, and summed up."""
    tokens = torch.randint(LEVELS, (1, LENGTH), device=model.device)
    places = range(0, LENGTH + 1, LENGTH // 8)
    for what in ("all samples before", "samples in reach"):
        began, ratios = time.perf_counter(), []
        for seconds_cached in cached:
            costs = []
            for t in places:
                t = t if what == "all samples before" else min(t, model.reach)
                costs.append(timed(lambda t=t: model.next_logits(tokens[:, :t]), repeat=3))
            total = LENGTH * (sum(costs) - (costs[0] + costs[-1]) / 2) / (len(costs) - 1)
            ratios.append(total / seconds_cached)
        record(
            "wavenet_fsdd", ratios, model="wavenet", length=LENGTH, against=f"a pass over {what}, at each sample",
            metric="times faster with rings, one stream", seconds=time.perf_counter() - began,
        )  # fmt: skip


def timed(work, repeat: int = 1) -> float:
    """Seconds of one call, the best of some."""
    found = []
    with torch.inference_mode():
        for _ in range(repeat):
            began = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            found.append(time.perf_counter() - began)
    return min(found)


if __name__ == "__main__":
    main()
