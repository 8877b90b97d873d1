"""How samples of images and vectors look beside data, and what is wrong with them: its name, its cause, a remedy.

What is known of the data goes with the run, so that samples drawn later are looked at as well.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pangen.data.dataset import Data
from pangen.rng import generator
from pangen.run import Run

EXAMPLES, SAMPLES = 1000, 16
FEWEST = 8
"""Samples without which nothing is said."""
FLAT, MANY = 0.1, 0.5
"""An image of less contrast than this share of the usual is of one tone; this much larger a share of them is too many."""
INNER, FEWER, WIDER = 1 / 3, 0.6, 1.3
"""Samples are saturated with less than the first of examples' share of values between the ends of the range; or with
less than the second, and more than the third of their variance."""
NOISE, SMOOTH = 0.5, 0.7
"""Of the way from examples to pixels that know nothing of each other; examples that are further along it than the
second have nothing to tell noise by."""
ALIKE = 0.1
"""Variance of samples relative to that of examples under which they are all the same."""
OUTSIDE = 0.1
"""Share of vectors that lie further outside the range of examples than it is wide."""

Looks = dict[str, Any]


def looks_of(data: Data) -> Looks | None:
    """What samples are set against, of the training split; None for other things than images and vectors."""
    if data.modality not in ("image", "vector"):
        return None
    train = data.train.in_memory()
    order = torch.randperm(len(train), generator=generator("cpu", "looks"))[:EXAMPLES]
    x = train.take(order, generator("cpu", "looks", "draw"))[0]
    if data.modality == "vector":
        every = train.x
        low, high = (every.amin(0), every.amax(0))
        return {"low": low.tolist(), "high": high.tolist(), "variance": x.var(0, correction=0).tolist()}
    contrast, found = contrasts(x, data.levels), _picture(x, data.levels)
    usual = float(contrast.median())
    return {"levels": data.levels, "contrast": usual, "flat": _share(contrast <= FLAT * usual), **found}


def contrasts(x: Tensor, levels: int) -> Tensor:
    """Standard deviation of the values of each image `(N,)`."""
    return (x.float() / (levels - 1)).flatten(1).std(1, correction=0)


def _picture(x: Tensor, levels: int) -> dict[str, float]:
    """Share of values between the ends; variance; and mean squared difference of neighbours over that of strangers."""
    x = x.float() / (levels - 1)
    across, down = (x.diff(dim=d).square().flatten() for d in (-1, -2))
    neighbours = torch.cat([across, down])
    variance = max(float(x.var(correction=0)), 1e-12)
    rough = float(neighbours.mean()) / (2 * variance) if len(neighbours) else 1.0
    spread = float(x.flatten(1).var(0, correction=0).sum())
    return {"between": _share((x > 0) & (x < 1)), "spread": spread, "roughness": rough}


def drawn(run: Run, seconds: float) -> Any:
    """A few raw samples as `run.sample` draws them, or None where they take longer."""
    model, began = run.model, time.perf_counter()
    y = run.codec.encode_condition(run.conditions(SAMPLES))
    y = model.space.filled(y, SAMPLES, model.device)
    states = model.trajectory(SAMPLES, y, generator=generator(model.device, "looks"))
    x: Any = None
    while True:
        with torch.no_grad():
            following = next(states, None)
        if following is None:
            return run.codec.decode(x, generator=generator(model.device, "looks", "decode"))
        if time.perf_counter() - began > seconds:
            return None
        x = following


def sample_alarms(x: Tensor, looks: Mapping[str, Any], *, guidance: float = 1.0) -> dict[str, str]:
    """What is wrong with raw samples, by kind, each a sentence; `guidance` is what they were drawn with."""
    if len(x) < FEWEST:
        return {}
    x = x.cpu()
    return _of_images(x, looks, guidance > 1) if "levels" in looks else _of_vectors(x, looks, guidance > 1)


def _of_images(x: Tensor, looks: Mapping[str, Any], guided: bool) -> dict[str, str]:
    found, levels = {}, looks["levels"]
    flat, now = contrasts(x, levels) <= FLAT * looks["contrast"], _picture(x, levels)
    remedy = (
        "lower --guidance."
        if guided
        else "the training has hardly begun, or has diverged: raise --budget, or lower training.lr."
    )
    if _share(flat) - looks["flat"] > MANY:
        mean = float(x[flat].float().mean()) / (levels - 1)
        tone = "black" if mean < 0.1 else "white" if mean > 0.9 else "grey"
        found["flat"] = f"{int(flat.sum())} of {len(x)} samples are {tone} and nothing else: {remedy}"
        return found
    limit = FEWER if now["spread"] > WIDER * looks["spread"] else INNER
    if levels > 2 and now["between"] < limit * looks["between"]:
        cause = (
            "guidance is too high: lower --guidance."
            if guided
            else "estimates leave the range of the data: lower training.lr, or raise --budget."
        )
        found["saturated"] = (
            f"samples are saturated: {now['between']:.0%} of their values lie between the ends of the range, and "
            f"{looks['between']:.0%} of the data's: {cause}"
        )
    way = (now["roughness"] - looks["roughness"]) / (1 - min(looks["roughness"], SMOOTH))
    if way > NOISE and looks["roughness"] <= SMOOTH:
        found["noise"] = (
            f"samples are noise: their pixels are {min(way, 1):.0%} of the way from those of the data to pixels that know "
            "nothing of each other: "
            + (
                "lower --guidance."
                if guided
                else "raise --budget, or draw with more --steps where there are some."
            )
        )
    if now["spread"] < ALIKE * looks["spread"]:
        found["alike"] = _alike(now["spread"] / looks["spread"], remedy)
    return found


def _of_vectors(x: Tensor, looks: Mapping[str, Any], guided: bool) -> dict[str, str]:
    low, high, variance = (torch.tensor(looks[k]) for k in ("low", "high", "variance"))
    remedy = (
        "lower --guidance." if guided else "the training has diverged: lower training.lr, or raise --budget."
    )
    if not x.isfinite().all():
        return {"not finite": f"samples are no finite numbers: {remedy}"}
    width, found = high - low, {}
    outside = ((x < low - width) | (x > high + width)).any(1)
    if _share(outside) > OUTSIDE:
        found["outside"] = (
            f"{int(outside.sum())} of {len(x)} samples lie further outside the range of the data than it is wide: {remedy}"
        )
    moving = variance > 0
    ratio = float((x.var(0, correction=0) / variance)[moving].mean()) if moving.any() else 1.0
    if ratio < ALIKE:
        found["alike"] = _alike(ratio, "the training has hardly begun: raise --budget, or training.lr.")
    return found


def _alike(ratio: float, remedy: str) -> str:
    return f"samples are all nearly the same, with {ratio:.1%} of the variance of the data: {remedy}"


def _share(holds: Tensor) -> float:
    return float(holds.double().mean())
