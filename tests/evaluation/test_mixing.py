"""Chains that mix and chains that cannot, and a model's own classifier."""

import pytest
import torch

import pangen
from pangen.capabilities import energy_of
from pangen.data import Data, Split
from pangen.errors import PangenError
from pangen.evaluation import evaluate
from pangen.evaluation.mixing import mixing_of
from pangen.model import last
from pangen.samplers.langevin import MALA


def stripes(labels: bool) -> Data:
    """Two patterns, all on or all off, with a bit of noise; the class says which."""
    generator = torch.Generator().manual_seed(0)
    splits = []
    for n in (200, 60, 60):
        y = torch.randint(2, (n,), generator=generator)
        flips = torch.rand(n, 1, 4, 4, generator=generator) < 0.1
        splits.append(Split((y[:, None, None, None].bool() ^ flips).to(torch.uint8), y if labels else None))
    return Data("stripes", "image", *splits, levels=2, labels=("off", "on") if labels else ())


def machine(weight: float, labels: bool = False) -> pangen.run.Run:
    """An RBM whose hidden units all agree with all visible ones: the two patterns, a wall between them."""
    run = pangen.fit(
        "rbm", stripes(labels), steps=1, device="cpu", recipe={"model.width": 20, "model.sweeps": 200}
    )
    with torch.no_grad():
        model = run.model
        model.W.zero_()
        model.W[:16] = weight
        model.b.zero_()
        model.b[:16] = -model.W[:16].sum(1) / 2
        model.c.copy_(-model.W[:16].sum(0) / 2)
        model.b_base.zero_()
    return run


def test_chains_that_are_stuck_are_told_from_chains_that_mix():
    mixed, stuck = mixing_of(machine(0.1)), mixing_of(machine(1.0))
    assert mixed["mixed"]
    assert mixed["r_hat"] < 1.1
    assert mixed["effective_sample_size"] > 100
    assert not stuck["mixed"]
    assert stuck["r_hat"] > 1.5
    assert 0 < stuck["acceptance"] <= 1


def test_each_label_s_chains_are_judged_alone():
    """Classes lie apart; that chains of one never reach the other is no fault."""
    run = machine(0.1, labels=True)
    with torch.no_grad():
        run.model.W[16:] = torch.tensor([[-3.0], [3.0]])
    found = mixing_of(run)
    assert found["chains"] == 8
    assert found["mixed"]


def test_exact_draws_have_no_chains():
    run = pangen.fit("boltzmann", stripes(False), steps=1, device="cpu", recipe={"model.hidden": 2})
    assert "none" in mixing_of(run)


def test_evaluate_tells_of_chains_and_of_the_classifier(quick_features):
    run = pangen.fit(
        "rbm", stripes(True), steps=300, device="cpu",
        recipe={"model.width": 8, "model.sweeps": 50, "model.temperatures": 20},
    )  # fmt: skip
    found = evaluate(run, stripes(True))
    assert found["mixing"]["r_hat"] > 0
    assert found["classifier"]["by"] == "the model's own p(y given x)"
    assert found["classifier"]["value"] > 0.95
    nats = found["likelihood_given_label"]["nats"]
    test = stripes(True).test
    assert nats == pytest.approx(float(run.log_prob(test.x, test.y).nats.mean()), abs=1e-4)


def test_a_model_s_own_classifier_is_bayes_rule_where_both_are_exact():
    """With the model's class shares in the place of the data's, both are the same."""
    run = pangen.fit("rbm", stripes(True), steps=200, device="cpu", recipe={"model.width": 6})
    x = stripes(True).test.x
    own = run.classify(x)
    bayes = run.joint_log_prob(x).nats - run.codec.label_log_prior + run.model.log_z.log_softmax(0)
    torch.testing.assert_close(own, bayes.log_softmax(1).double(), atol=1e-4, rtol=1e-4)


def test_a_flow_classifies_by_bayes_rule_and_an_unlabelled_model_not_at_all():
    flow = pangen.fit("realnvp", stripes(True), steps=2, device="cpu")
    assert flow.classify(stripes(True).test.x[:3]).exp().sum(1).tolist() == pytest.approx([1.0] * 3)
    with pytest.raises(PangenError, match="without labels"):
        pangen.fit("rbm", stripes(False), steps=1, device="cpu").classify(stripes(False).test.x)
    with pytest.raises(PangenError, match="has no likelihood"):
        pangen.fit("gan", stripes(True), steps=1, device="cpu").classify(stripes(True).test.x)


def test_an_exact_model_offers_its_energy_to_every_sampler():
    """MALA on a flow's -log p walks in the flow's law: its energy is that, and bounds have none."""
    flow = pangen.fit(
        "nice", torch.randn(300, 2, generator=torch.Generator().manual_seed(0)), steps=50, device="cpu"
    )
    energy = energy_of(flow.model)
    x = flow.model.sample(64)
    torch.testing.assert_close(energy.energy(x), -flow.model.log_prob(x).nats)
    state = last(MALA(0.1, 20)(energy, x, generator=torch.Generator().manual_seed(0)))
    assert state.x.isfinite().all()
    assert float(state.accepted.float().mean()) > 0
    vae = pangen.fit("vae", torch.randn(60, 2), steps=1, device="cpu")
    with pytest.raises(PangenError, match="no energy"):
        energy_of(vae.model).energy(torch.randn(2, 2))
    rbm = pangen.fit("rbm", stripes(False), steps=1, device="cpu").model
    assert energy_of(rbm) is rbm
