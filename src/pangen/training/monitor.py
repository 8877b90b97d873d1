"""Models whose loss does not tell how they are: what their samples and their critic do, and what goes wrong."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pangen.capabilities import HasCritic
from pangen.model import GenerativeModel
from pangen.networks.rounding import exactly
from pangen.rng import seed_global
from pangen.space import Batch, Progress

NEIGHBOURS = 5
"""Of an example, among which a sample is near it."""
SAME = 0.25
"""Two samples are the same nearer than this share of the usual distance of an example to its nearest."""
EARLY = 0.25
"""Share of a training in which nothing is wrong yet."""
LASTING = 3
"""Checks in a row that make an alarm of what one shows."""
COVERED, SPREAD, REPEATED = 0.2, 0.5, 0.2
"""Collapse: held-out examples near a sample fewer, distances between samples smaller than this share of those
between examples, or this share more samples the same than examples are."""
SURE = 0.98
"""Overpowering: of pairs of an example and a sample the critic ranks so many rightly."""
BY_HEART = 0.2
"""So many more with training examples than with held-out ones."""
MISLED, TOLD = 0.4, 0.8
"""It ranks fewer pairs rightly than this, of samples that the two-sample test knows better than that."""
STILL = 1e-6
"""Gradient of the generator, relative to the largest seen, that moves nothing."""
SWINGS, FAR = 3, 3.0
"""Oscillation: turns of the score within the last checks, each this many times up or down."""
WINDOW = 8
"""Checks that oscillation looks back on."""
NOISE = 0.02
"""Scores below this share of the largest are alike."""
EQUAL = 0.02
"""Distance from 0.5 within which an accuracy of the two-sample test is chance, for many examples."""

Facts = dict[str, float]
ENERGY, RESOLUTION = "energy distance", "resolution of the energy distance"
"""The fact that decides which weights are kept, and its standard deviation between equal laws."""


def sample_facts(real: Tensor, fake: Tensor) -> Facts:
    """Of held-out examples `(N, D)` and as many samples, in coordinates of the model's space.

    `energy distance` (Szekely and Rizzo 2013), unbiased: below 0 for half of equal laws; `coverage` (Naeem
    et al. 2020, Eq. 4) and `recall` (Kynkäänniemi et al. 2019, Eq. 2): the share of examples near a sample,
    by the example's neighbours and by the sample's; `duplicates`: the share of samples that are nearly
    another one, beyond that of examples; `spread`: mean squared distance between samples over that between
    examples; `two-sample accuracy` of the nearest neighbour (Lopez-Paz and Oquab 2017), 0.5 for samples of
    the same law.
    """
    within, among, between = torch.cdist(real, real), torch.cdist(fake, fake), torch.cdist(real, fake)
    energy = 2 * between.mean() - sum(d.sum() / (len(d) * max(len(d) - 1, 1)) for d in (within, among))
    resolution = null_spread(within)
    spread = among.square().mean() / within.square().mean().clamp(min=1e-12)
    for distances in (within, among):
        distances.fill_diagonal_(torch.inf)
    k = max(min(NEIGHBOURS, len(real) - 1), 1)  # of a single example all is near
    radius_real, radius_fake = (d.kthvalue(k, 1).values for d in (within, among))
    nearest_real, nearest_fake = (d.min(1).values for d in (within, among))
    same = SAME * nearest_real.median()
    right = _smaller(nearest_real, between.min(1).values) + _smaller(nearest_fake, between.min(0).values)
    return {
        ENERGY: float(energy),
        RESOLUTION: resolution,
        "coverage": _share(between.min(1).values <= radius_real),
        "recall": _share((between <= radius_fake).any(1)),
        "duplicates": max(_share(nearest_fake <= same) - _share(nearest_real <= same), 0.0),
        "spread": float(spread),
        "two-sample accuracy": right / 2,
    }


def null_spread(within: Tensor) -> float:
    """Standard deviation of the energy distance of N and N examples of one law, given N of them by their distances `(N, N)`.

    It is the sum of (2 / N) l_i chi^2_i over the eigenvalues of the centred distance (Gretton et al. 2012, Theorem 12,
    whose kernel it is), and their squares sum to that function's mean square.
    """
    n = len(within)
    if n < 3:
        return 0.0
    others = within.sum(1, keepdim=True) / (n - 1)
    centred = within - others - others.T + others.mean()
    square = (centred.square().sum() - centred.diagonal().square().sum()) / (n * (n - 1))
    return float(2 / n * (2 * square).sqrt())


def critic_facts(model: HasCritic, train: Batch, held_out: Batch, fake: Tensor) -> Facts:
    """How many of pairs of an example, of training or held out, and a sample the critic ranks rightly."""
    d = model.critic(fake, held_out.y)
    return {
        name: _smaller(d[:, None], model.critic(x, y)[None])
        for name, (x, y) in (("critic on training", train), ("critic on held-out", held_out))
    }


def gradient_norms(model: GenerativeModel, batch: Batch, progress: Progress) -> Facts:
    """The norm of each player's gradient in a step that is not taken, and in which float16 is not used."""
    model, found = copy.deepcopy(model), {}
    with torch.random.fork_rng(), torch.enable_grad():
        seed_global(model.device, "monitor")
        exactly(model)
        players = model.requires_grad_(True).train().players()
        for player, loss in model.steps(batch, progress):
            gradients = torch.autograd.grad(loss.total, players[player], allow_unused=True)
            squares = [g.square().sum() for g in gradients if g is not None]
            found[f"gradient of the {player}"] = float(torch.stack(squares).sum().sqrt()) if squares else 0.0
    return found


def alarms(checks: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """What is wrong, by kind, with its cause and a remedy; of each check its facts, `progress` and `score`.

    One bad check is bad luck: an alarm has held for some of them.
    """
    last = [check for check in checks if check["progress"] >= EARLY][-LASTING:]
    if len(last) < LASTING:
        return {}
    now, found = last[-1], {}
    if all(c["coverage"] < COVERED or c["spread"] < SPREAD or c["duplicates"] > REPEATED for c in last):
        found["collapse"] = (
            f"samples have collapsed: they are near {now['coverage']:.0%} of held-out examples, lie {now['spread']:.2g} "
            f"times as far apart, and {now['duplicates']:.0%} repeat another: the critic rewards few modes; raise "
            "model.r1 or model.gamma, lower training.lr, or set model.game to relativistic."
        )
    if all(c.get("critic on training", 0.5) > SURE for c in last):
        found["overpowered"] = (
            f"the critic overpowers the generator: it tells {now['critic on training']:.1%} of pairs, so that its slope "
            "says little: raise model.r1 or model.gamma, lower training.lr, or give the generator more width."
        )
    if all(c.get("critic on training", 0.5) - c.get("critic on held-out", 0.5) > BY_HEART for c in last):
        found["by heart"] = (
            f"the critic knows training examples by heart: it tells {now['critic on training']:.1%} of them from samples, "
            f"and {now['critic on held-out']:.1%} of held-out ones: set model.augment to adaptive, or take more data."
        )
    if all(c.get("critic on held-out", 0.5) < MISLED and c["two-sample accuracy"] > TOLD for c in last):
        found["misled"] = (
            f"the critic is misled: it takes samples for likelier than {1 - now['critic on held-out']:.0%} of held-out "
            f"examples, though {now['two-sample accuracy']:.0%} are told apart by their neighbours: what it learns from is "
            "not the data; look for a shift, a scale or a leak in what training shows it."
        )
    if "gradient of the generator" in now:
        most = max(c["gradient of the generator"] for c in checks)
        if all(c["gradient of the generator"] <= STILL * most for c in last):
            found["still"] = (
                "the generator stands still, as it receives no gradient: the game is over; start anew with another seed "
                "or model.game."
            )
    scores = [c["score"] for c in checks]
    floor = NOISE * max(scores)
    if _turns([max(score, floor) for score in scores[-WINDOW:]]) >= SWINGS:
        found["circles"] = (
            "the players chase each other in circles: the distance of samples to data goes up and down by a factor of "
            f"{FAR:g} and more: lower training.lr, raise model.r1 or model.gamma, or set training.ema."
        )
    return found


def satisfied(checks: Sequence[Mapping[str, float]], patience: int) -> bool:
    """Whether samples could not be told from data in so many checks in a row; never for a patience of 0."""
    last = checks[-patience:] if patience else []
    return len(last) == patience > 0 and all(
        abs(check.get("two-sample accuracy", 1.0) - 0.5) <= EQUAL for check in last
    )


def _turns(scores: Sequence[float]) -> int:
    """How often the scores turn from falling to rising or back, moving by a factor of FAR each time."""
    turns, direction, extreme = 0, 0, scores[0]
    for score in scores:
        if (direction >= 0 and score * FAR <= extreme) or (direction <= 0 and score >= FAR * extreme):
            turns, direction, extreme = turns + (direction != 0), -1 if score < extreme else 1, score
        elif direction < 0:
            extreme = min(extreme, score)
        elif direction > 0:
            extreme = max(extreme, score)
    return turns


def _share(holds: Tensor) -> float:
    return float(holds.double().mean())


def _smaller(a: Tensor, b: Tensor) -> float:
    """The share of a < b, equal ones counted half."""
    return float((a < b).double().mean() + (a == b).double().mean() / 2)
