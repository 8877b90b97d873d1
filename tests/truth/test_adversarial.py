"""The adversarial game: its losses at known critics, its penalty, and who receives which gradient."""

import math

import pytest
import torch
from torch import Tensor, nn

from pangen.families.adversarial.gan import GAN, gradient_penalty
from pangen.space import Batch, Progress, Space, class_space

GAMES = ("non-saturating", "relativistic")
START = Progress(0, 10)


def model(game: str = "non-saturating", **settings) -> GAN:
    space = Space("real", (3,), condition=class_space(4))
    return GAN(space, width=16, noise=2, game=game, **settings)


def batch(n: int = 12) -> Batch:
    return Batch(torch.randn(n, 3), torch.arange(n) % 4)


@pytest.mark.parametrize("game", GAMES)
def test_an_indifferent_critic_costs_log_2_a_decision(game):
    """At D = 0 the critic takes two decisions (one, about a pair, in the relativistic game)."""
    gan = model(game)
    nn.init.zeros_(gan.discriminator.net.head.weight)
    nn.init.zeros_(gan.discriminator.net.head.bias)
    losses = dict(gan.steps(batch(), START))
    decisions = 2 if game == "non-saturating" else 1
    assert losses["critic"].total.item() == pytest.approx(decisions * math.log(2), abs=1e-6)
    assert losses["generator"].total.item() == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("game", GAMES)
def test_penalty_of_a_linear_critic_is_its_squared_weight(game, monkeypatch):
    """gamma / 2 |w|^2 on real examples, and as much again on generated ones in the relativistic game."""
    gan, w = model(game, gamma=3.0), torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    monkeypatch.setattr(gan, "critic", lambda x, y=None: x @ w)
    _, loss = next(gan.steps(batch(), START))
    penalty = loss.total - loss.terms["loss"]
    times = 1 if game == "non-saturating" else 2
    assert penalty.item() == pytest.approx(times * 3.0 / 2 * float(w.detach() @ w.detach()), rel=1e-6)
    (gradient,) = torch.autograd.grad(penalty, w)
    assert torch.allclose(gradient, times * 3.0 * w.detach(), rtol=1e-5)


def test_penalty_counts_each_example_by_itself():
    """D(x) = |x|^2 / 2 has gradient x, so the penalty is the mean of |x|^2."""
    x = torch.randn(7, 2, 3, requires_grad=True)
    found = gradient_penalty(x.square().flatten(1).sum(1) / 2, x)
    assert found.item() == pytest.approx(float(x.detach().square().sum() / 7), rel=1e-6)


@pytest.mark.parametrize("game", GAMES)
def test_each_player_receives_its_own_gradient_alone(game):
    gan = model(game)
    players = gan.players()
    for player, loss in gan.steps(batch(), START):
        loss.total.backward(inputs=players[player])
        for name, parameters in players.items():
            assert all((p.grad is not None) == (name == player) for p in parameters)
        gan.zero_grad(set_to_none=True)


def test_the_generator_answers_the_critic_as_it_is_after_its_step():
    """Code after the first yield sees the updated critic."""
    gan = model()
    turns = gan.steps(batch(), START)
    next(turns)
    nn.init.zeros_(gan.discriminator.net.head.weight)
    nn.init.constant_(gan.discriminator.net.head.bias, 5.0)
    assert next(turns)[1].total.item() == pytest.approx(math.log1p(math.exp(-5.0)), rel=1e-5)


def test_generator_loss_is_not_the_saturating_one(monkeypatch):
    """-log sigmoid(D) keeps its slope of almost -1 where the critic is sure that the example is fake."""
    gan, d = model(gamma=0.0), torch.full((12,), -8.0, requires_grad=True)
    monkeypatch.setattr(gan, "critic", lambda x, y=None: d)
    turns = gan.steps(batch(), START)
    monkeypatch.setattr("pangen.families.adversarial.gan.gradient_penalty", lambda d, x: torch.zeros(()))
    next(turns)
    (slope,) = torch.autograd.grad(next(turns)[1].total, d)
    assert torch.allclose(slope * 12, torch.full((12,), -1 / (1 + math.exp(-8.0))))


def test_the_best_critic_measures_the_jensen_shannon_divergence(monkeypatch):
    """At D = log p / q the critic's loss is log 4 - 2 JSD(p, q), and no other critic has a lower one."""
    n, shift = 200_000, 1.0
    x = torch.linspace(-12, 13, 20_001, dtype=torch.float64)
    p, q = (torch.distributions.Normal(m, 1.0).log_prob(x).exp() for m in (0.0, shift))
    mix = (p + q) / 2
    divergence = float(torch.trapezoid(p * (p / mix).log() + q * (q / mix).log(), x)) / 2

    gan = GAN(Space("real", (1,)), width=8, noise=1, gamma=0.0)
    monkeypatch.setattr(gan, "generate", lambda z, y=None: z + shift)

    def loss(change) -> float:
        def critic(x: Tensor, y: Tensor | None = None) -> Tensor:
            best = (shift**2 / 2 - shift * x)[:, 0]  # log N(x; 0, 1) - log N(x; shift, 1)
            return change(best)

        monkeypatch.setattr(gan, "critic", critic)
        torch.manual_seed(1)
        return next(gan.steps(Batch(torch.randn(n, 1)), START))[1].terms["loss"].item()

    best = loss(lambda d: d)
    # softplus of these logits has a standard deviation below 0.5: two means of n, four standard errors
    assert best == pytest.approx(math.log(4) - 2 * divergence, abs=4 * 0.5 * math.sqrt(2 / n))
    for other in (lambda d: d + 0.3, lambda d: 0.6 * d, lambda d: 1.5 * d, lambda d: 0 * d):
        assert loss(other) > best


@pytest.mark.parametrize("kind", ["grid", "binary", "real"])
def test_generated_values_lie_in_the_space(kind):
    space = Space("real", (1, 4, 5), levels=7) if kind == "grid" else Space("binary", (1, 4, 5), levels=2)
    gan = GAN(Space("real", (5,)) if kind == "real" else space, width=16, noise=4)
    with torch.no_grad():
        gan.generator.net.head.weight.mul_(100)
    x = gan.sample(50)
    if kind == "grid":
        assert float(x.abs().max()) <= 1
    elif kind == "binary":
        assert set(x.unique().tolist()) == {0.0, 1.0}
    else:
        assert float(x.abs().max()) > 1
