"""The adversarial games: their losses at known critics, their penalties, who receives which gradient, and codes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from pangen.data.batches import Piece
from pangen.families.adversarial.adversarial import Adversarial
from pangen.families.adversarial.games import GAMES, Penalties, between, slope_from_one, squared_slope
from pangen.families.adversarial.gan import GAN
from pangen.recipes.recipe import Training
from pangen.samplers.inversion import nearest_codes
from pangen.space import Batch, Progress, Space, class_space
from pangen.training.loop import State, train_step

START = Progress(0, 10)
LOG_2 = math.log(2)


def model(game: str = "non-saturating", **settings) -> GAN:
    space = Space("real", (3,), condition=class_space(4))
    return GAN(space, width=16, noise=2, game=game, **{"critic_steps": 1, **settings})


def batch(n: int = 12) -> Batch:
    return Batch(torch.randn(n, 3), torch.arange(n) % 4)


@pytest.mark.parametrize(
    ("game", "critic", "generator"),
    [
        ("saturating", 2 * LOG_2, -LOG_2),
        ("non-saturating", 2 * LOG_2, LOG_2),
        ("least-squares", 0.5, 0.5),
        ("hinge", 2.0, 0.0),
        ("wasserstein", 0.0, 0.0),
        ("relativistic", LOG_2, LOG_2),
    ],
)
def test_what_an_indifferent_critic_costs(game, critic, generator):
    """At D = 0: log 2 a decision, of which the relativistic critic takes one, about a pair."""
    gan = model(game, r1=0, r2=0, slope=0)
    for parameter in gan.discriminator.net.net.head.parameters():
        nn.init.zeros_(parameter)
    losses = dict(gan.steps(batch(), START))
    assert losses["critic"].total.item() == pytest.approx(critic, abs=1e-6)
    assert losses["generator"].total.item() == pytest.approx(generator, abs=1e-6)


@pytest.mark.parametrize("game", GAMES)
def test_both_sides_want_the_opposite(game):
    """More of the critic's logit on samples costs the critic and pays the generator; never the reverse."""
    real, fake = torch.randn(50), torch.randn(50, requires_grad=True)
    (cost,) = torch.autograd.grad(GAMES[game].critic(real, fake), fake)
    (gain,) = torch.autograd.grad(GAMES[game].generator(real, fake), fake)
    if game == "least-squares":  # towards 0 and towards 1
        cost, gain = cost * fake.detach().sign(), gain * (fake.detach() - 1).sign()
        assert (gain >= 0).all()
    else:
        assert (gain <= 0).all()
    assert (cost >= 0).all()


def test_the_saturating_gradient_vanishes_where_the_critic_is_sure_and_the_other_does_not():
    d = torch.full((12,), -8.0, requires_grad=True)
    slopes = {}
    for game in ("saturating", "non-saturating"):
        (slopes[game],) = torch.autograd.grad(12 * GAMES[game].generator(d, d), d)
    p = 1 / (1 + math.exp(8.0))  # D(G(z))
    assert torch.allclose(slopes["saturating"], torch.tensor(-p))
    assert torch.allclose(slopes["non-saturating"], torch.tensor(p - 1))


@pytest.mark.parametrize(("game", "divergence"), [("saturating", "js"), ("wasserstein", "mean")])
def test_the_best_critic_measures_a_divergence(game, divergence):
    """At D = log p / q the minimax critic's loss is log 4 - 2 JSD(p, q), and no other has a lower one;
    critics of slope 1 at best reach minus the distance of the means, for shifted laws (Arjovsky et al. 2017)."""
    n, shift = 200_000, 1.0
    real = torch.randn(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    fake = torch.randn(n, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + shift
    if divergence == "mean":
        assert GAMES[game].critic(-real, -fake).item() == pytest.approx(-shift, abs=4 * math.sqrt(2 / n))
        assert GAMES[game].critic((-real).tanh(), (-fake).tanh()) > -shift
        return
    x = torch.linspace(-12, 13, 20_001, dtype=torch.float64)
    p, q = (torch.distributions.Normal(m, 1.0).log_prob(x).exp() for m in (0.0, shift))
    mix = (p + q) / 2
    js = float(torch.trapezoid(p * (p / mix).log() + q * (q / mix).log(), x)) / 2

    def loss(change) -> float:
        best = (shift**2 / 2 - shift * v for v in (real, fake))  # log N(v; 0, 1) - log N(v; shift, 1)
        return GAMES[game].critic(*map(change, best)).item()

    # softplus of these logits has a standard deviation below 0.5: two means of n, four standard errors
    assert loss(lambda d: d) == pytest.approx(math.log(4) - 2 * js, abs=4 * 0.5 * math.sqrt(2 / n))
    for other in (lambda d: d + 0.3, lambda d: 0.6 * d, lambda d: 1.5 * d, lambda d: 0 * d):
        assert loss(other) > loss(lambda d: d)


# -- penalties --------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [{"r1": 3.0}, {"r2": 3.0}, {"r1": 3.0, "r2": 3.0}])
def test_penalty_of_a_linear_critic_is_its_squared_weight(weights, monkeypatch):
    """gamma / 2 |w|^2, for each end at which it is asked for."""
    gan, w = model(**{"r1": 0, "r2": 0, **weights}), torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    monkeypatch.setattr(gan, "critic", lambda x, y=None: x @ w)
    _, loss = next(gan.steps(batch(), START))
    penalty = loss.total - loss.terms["loss"]
    assert penalty.item() == pytest.approx(len(weights) * 3.0 / 2 * 5.25, rel=1e-6)
    (gradient,) = torch.autograd.grad(penalty, w)
    assert torch.allclose(gradient, len(weights) * 3.0 * w.detach(), rtol=1e-5)


def test_penalties_count_each_example_by_itself():
    """D(x) = |x|^2 / 2 has gradient x, so that R1 is the mean of |x|^2."""
    x = torch.randn(7, 2, 3, requires_grad=True)
    d, length = x.square().flatten(1).sum(1) / 2, x.detach().flatten(1).norm(dim=1)
    assert squared_slope(d, x).item() == pytest.approx(float(length.square().mean()), rel=1e-6)
    assert slope_from_one(d, x).item() == pytest.approx(float((length - 1).square().mean()), rel=1e-5)


def test_a_critic_of_slope_one_pays_no_slope_penalty():
    x, w = torch.randn(9, 3, requires_grad=True), nn.functional.normalize(torch.randn(3), dim=0)
    assert slope_from_one(x @ w, x).item() == pytest.approx(0.0, abs=1e-12)
    real, fake = torch.zeros(1000, 2), torch.ones(1000, 2)
    on_the_way = between(real, fake)
    assert torch.equal(on_the_way[:, 0], on_the_way[:, 1])  # one place for all of an example
    assert on_the_way.mean().item() == pytest.approx(0.5, abs=4 * (1 / 12 / 1000) ** 0.5)


def test_a_lazy_penalty_weighs_as_much_as_it_waits_and_fades():
    gan = model(r1=2.0, every=4)
    found = [next(gan.steps(batch(), Progress(step, 100)))[1] for step in range(5)]
    paid = [(loss.total - loss.terms["loss"]).item() for loss in found]
    assert [("penalty" in loss.terms) for loss in found] == [True, False, False, False, True]
    assert [p > 0 for p in paid] == [True, False, False, False, True]
    assert paid[0] == pytest.approx(4 * found[0].terms["penalty"].item(), rel=1e-4)

    class Fading(Adversarial):
        def __init__(self):
            super().__init__(
                Space("real", (3,)), noise=2, game="non-saturating", penalties=Penalties(2.0, fade=0.1)
            )
            self.generator, self.discriminator = nn.Linear(2, 3), nn.Linear(3, 1)

        def critic(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            return self.discriminator(x)[:, 0]

        def generate(self, w, y=None, *, generator=None):
            return self.generator(w)

    fading = Fading()
    for step, left in ((0, 1.0), (50, 0.1**0.5), (100, 0.1)):
        _, loss = next(fading.steps(Batch(batch().x), Progress(step, 100)))
        squared = float(fading.discriminator.weight.detach().square().sum())
        assert (loss.total - loss.terms["loss"]).item() == pytest.approx(left * squared, rel=1e-4)


# -- turns ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("game", GAMES)
def test_each_player_receives_its_own_gradient_alone(game):
    """Also through the second derivatives of penalties."""
    gan = model(game, slope=1.0, r1=1.0, r2=1.0)
    players = gan.players()
    assert sum(map(len, players.values())) == len(list(gan.parameters()))
    for player, loss in gan.steps(batch(), START):
        loss.total.backward(inputs=players[player])
        for name, parameters in players.items():
            assert any(p.grad is not None for p in parameters) == (name == player)
        gan.zero_grad(set_to_none=True)


def test_the_generator_answers_the_critic_as_it_is_after_its_step():
    """Code after the first yield sees the updated critic."""
    gan = model()
    turns = gan.steps(batch(), START)
    next(turns)
    nn.init.zeros_(gan.discriminator.net.net.head.weight)
    nn.init.constant_(gan.discriminator.net.net.head.bias, 5.0)
    assert next(turns)[1].total.item() == pytest.approx(math.log1p(math.exp(-5.0)), rel=1e-5)


def test_several_turns_of_the_critic_share_the_batch_out(monkeypatch):
    gan, seen = model(critic_steps=3), []
    monkeypatch.setattr(
        gan, "critic_loss", lambda x, fake, y, progress: seen.append((x, fake, y)) or torch.zeros(())
    )
    data = batch()
    assert [player for player, _ in gan.steps(data, START)] == ["critic"] * 3 + ["generator"]
    assert torch.equal(torch.cat([x for x, _, _ in seen]), data.x)
    assert len({float(fake.sum()) for _, fake, _ in seen}) == 3  # fresh samples for each


def test_a_critic_divided_by_its_singular_values_has_slope_one_at_most():
    """Each layer's largest singular value is 1, with a rectifier between, so is that of the whole."""
    gan = GAN(Space("real", (3,)), width=16, network="mlp", depth=2, spectral=True, r1=0)
    for _ in range(100):  # the power iteration goes on with each pass
        gan.critic(torch.randn(4, 3))
    for layer in gan.discriminator.modules():
        if isinstance(layer, nn.Linear):
            assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1.0, abs=1e-3)
    a, b = torch.randn(500, 3), torch.randn(500, 3)
    gan.eval()
    assert ((gan.critic(a) - gan.critic(b)).abs() <= 1.001 * (a - b).norm(dim=1)).all()


@pytest.mark.parametrize("kind", ["grid", "binary", "real"])
def test_generated_values_lie_in_the_space(kind):
    space = Space("real", (1, 4, 5), levels=7) if kind == "grid" else Space("binary", (1, 4, 5), levels=2)
    gan = GAN(Space("real", (5,)) if kind == "real" else space, width=16, noise=4)
    with torch.no_grad():
        gan.generator.net.net.head.weight.mul_(100)
    x = gan.sample(50)
    if kind == "grid":
        assert float(x.abs().max()) <= 1
    elif kind == "binary":
        assert set(x.unique().tolist()) == {0.0, 1.0}
    else:
        assert float(x.abs().max()) > 1


# -- codes ------------------------------------------------------------------------------------------


def test_codes_of_generated_examples_give_them_back():
    """The search ends at an example that is as good as the same, although it knows nothing of the code."""
    torch.manual_seed(0)
    gan = GAN(Space("real", (6,)), width=32, noise=3).requires_grad_(False).eval()
    x = gan.generate(gan.draw(20))
    again = gan.decode(gan.encode(x))
    assert (again - x).norm(dim=1).median() < 0.05 * (x - x.mean(0)).norm(dim=1).median()


def test_a_search_through_a_linear_map_ends_at_the_projection():
    torch.manual_seed(0)
    A, x = torch.randn(3, 8), torch.randn(5, 8)
    found = nearest_codes(lambda w, y: w @ A, x, None, torch.randn(16, 3), steps=400)
    assert torch.allclose(found @ A, x @ torch.linalg.pinv(A) @ A, atol=0.02)


def test_codes_of_an_example_do_not_depend_on_those_beside_it():
    torch.manual_seed(0)
    gan = GAN(Space("real", (6,)), width=16, noise=3).requires_grad_(False).eval()
    x = torch.randn(6, 6)
    assert torch.allclose(gan.encode(x)[2:3], gan.encode(x[2:3]), atol=1e-3)


def test_truncation_draws_codes_to_their_mean():
    gan = GAN(Space("real", (3,)), width=16, noise=2).eval()
    wide, narrow, none = (gan.sample(200, truncation=psi).var(0).sum() for psi in (1.0, 0.5, 0.0))
    assert wide > narrow > none
    assert none.item() == pytest.approx(0.0, abs=1e-10)


def test_each_player_moves_at_its_own_pace():
    """The first step of Adam is the learning rate, whatever the gradient."""
    gan = model(r1=0.0, pace=0.25)
    before = {name: [p.clone() for p in parameters] for name, parameters in gan.players().items()}
    settings = Training(steps=10, budget=None, lr=1e-3, weight_decay=0.0, clip=None, warmup=0, ema=0.0)
    train_step(State.start(gan, settings), [Piece(batch())], settings)
    moved = {
        name: max((p - b).abs().max().item() for p, b in zip(gan.players()[name], before[name], strict=True))
        for name in before
    }
    assert moved == pytest.approx({"critic": 1e-3, "generator": 2.5e-4}, rel=0.01)
