"""Memory before a training and when it ends: what is counted is there, and what is advised fits."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch

import pangen
from pangen.data.batches import Batches
from pangen.errors import PangenError
from pangen.families.latent.vae import VAE
from pangen.memory import free_memory, used_memory
from pangen.model import GenerativeModel
from pangen.recipes import Training
from pangen.space import Batch, Loss, Space
from pangen.training import fit, footprint


class OneLayer(GenerativeModel):
    """Keeps for its gradient what goes into the layer and what comes out of the tanh."""

    def __init__(self, space: Space) -> None:
        super().__init__(space)
        self.W = torch.nn.Parameter(torch.randn(10, 30))

    def loss(self, batch, progress):
        return Loss((batch.x @ self.W).tanh().mean())


class Inner(OneLayer):
    """Finds gradients on its way, and lets go what they needed."""

    def loss(self, batch, progress):
        x = batch.x
        for _ in range(20):
            x = x.detach().requires_grad_()
            x = x - torch.autograd.grad(super().loss(Batch(x), progress).total, x)[0]
        return super().loss(Batch(x.detach()), progress)


def batches(count: int, size: int) -> Batches:
    """The part of `Batches` that is asked for."""
    x = torch.randn(count, 10)
    return SimpleNamespace(size=size, take=lambda index: Batch(x[index]))


@pytest.mark.parametrize("size", [1, 4, 64, 200])
def test_what_a_loss_keeps_is_counted(size):
    found = footprint.footprint(OneLayer(Space("real", (10,))), batches(200, size), Training())
    assert found.example == 4 * (10 + 30)
    assert found.fixed == 4 * 300 * (2 + 3)  # model and best copy; gradient and two moments


def test_what_was_let_go_is_not_counted():
    space, kinds = Space("real", (10,)), (OneLayer, Inner)
    whole, inner = (footprint.footprint(kind(space), batches(64, 64), Training()) for kind in kinds)
    assert (
        whole.example <= inner.example < 2.1 * whole.example
    )  # the last step's are let go after the next begins


@pytest.mark.parametrize(
    ("settings", "copies"), [({"ema": 0.9}, 6), ({"snapshots": 1}, 7), ({"optimizer": "sgd"}, 4)]
)
def test_averages_and_moments_are_counted(settings, copies):
    found = footprint.footprint(OneLayer(Space("real", (10,))), batches(200, 64), Training(**settings))
    assert found.fixed == 4 * 300 * copies


def test_what_cannot_fit_is_refused_and_what_is_advised_fits(tmp_path, monkeypatch):
    free, small = 2**20, {"model.width": 16, "training.batch": 512}
    monkeypatch.setattr(footprint, "free_memory", lambda device: free)

    def train(**settings):
        fields = small | {f"training.{name}": value for name, value in settings.items()}
        pangen.fit("vae", "digits", steps=1, device="cpu", out=tmp_path / "run", recipe=fields)

    with pytest.raises(PangenError, match=r"\d+ examples at once fit") as refused:
        train()
    assert not (tmp_path / "run").exists()
    advice = re.search(r"accumulate to (\d+), or training.batch to (\d+)", str(refused.value))
    pieces, batch = map(int, advice.groups())
    assert pieces == -(-512 // batch) > 1
    with pytest.raises(PangenError, match="training needs"):
        train(batch=batch + 8)
    monkeypatch.setattr(footprint, "free_memory", lambda device: 2**14)
    with pytest.raises(PangenError, match="smaller model"):
        train()
    monkeypatch.setattr(footprint, "free_memory", lambda device: free)
    train(accumulate=pieces)


@pytest.mark.parametrize(
    ("room", "words"),
    [(40, "32 examples at once fit: set training.accumulate to 4, or"), (1, "take a smaller")],
)
def test_memory_that_ends_in_training_leads_to_a_batch_that_fits(room, words, tmp_path, monkeypatch):
    loss, steps = VAE.loss, []

    def greedy(self, batch, progress):
        steps.append(progress.step)
        if progress.step == 2 and self.training and len(batch.x) > room:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return loss(self, batch, progress)

    monkeypatch.setattr(VAE, "loss", greedy)
    with pytest.raises(PangenError, match=words) as error:
        pangen.fit("vae", "digits", steps=4, device="cpu", out=tmp_path / "run", recipe={"model.width": 8})
    assert "at step 2 with 128 examples at once" in str(error.value)
    assert pangen.load_run(tmp_path / "run").card["state"] == "failed"


def test_blocks_that_would_fit_if_they_were_computed_again_are_advised(tmp_path, monkeypatch):
    deep = {"model.width": 32, "model.network": "dit", "model.depth": 6, "training.batch": 256}
    monkeypatch.setattr(footprint, "free_memory", lambda device: 2**22)

    def train(**settings):
        fields = deep | {f"training.{name}": value for name, value in settings.items()}
        pangen.fit("edm", "digits", steps=1, device="cpu", out=tmp_path / "run", recipe=fields)

    with pytest.raises(PangenError, match=r"with training\.recompute set to true") as refused:
        train()
    plain, again = map(int, re.findall(r"(\d+) examples at once fit", str(refused.value)))
    assert 1 <= plain < again < 256
    with pytest.raises(PangenError, match="training needs") as refused:
        train(recompute=True, batch=again + 8)
    assert "training.recompute" not in str(refused.value)
    train(recompute=True, batch=again)


@pytest.mark.parametrize(
    ("pieces", "room", "words"),
    [
        (4, 20, "with 32 examples at once; 16 examples at once fit: set training.accumulate to 8, or"),
        (1, 0, "with training.recompute set to true 128 examples at once fit"),
    ],
)
def test_memory_that_ends_is_spared_by_smaller_pieces_or_by_computing_again(
    pieces, room, words, tmp_path, monkeypatch
):
    loss = VAE.loss

    def greedy(self, batch, progress):
        again = any("forward" in vars(module) for module in self.modules())
        if progress.step == 2 and self.training and len(batch.x) > room and not (again and room == 0):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return loss(self, batch, progress)

    monkeypatch.setattr(VAE, "loss", greedy)
    fields = {"model.width": 8, "training.accumulate": pieces}
    with pytest.raises(PangenError, match=words) as error:
        pangen.fit("vae", "digits", steps=4, device="cpu", out=tmp_path / "run", recipe=fields)
    assert ("training.recompute" in str(error.value)) == (room == 0)


def test_memory_of_the_machine_and_of_this_process():
    assert used_memory() is None or 2**25 < used_memory() < 2**36
    assert free_memory() is None or free_memory() > 0


def test_checkpoints_take_their_share_and_no_more(tmp_path, monkeypatch):
    """By a clock on which a step takes a second and a checkpoint half a one: one in 26 steps."""
    now = [0.0]
    step, save = fit.train_step, fit.save_checkpoint

    def takes(seconds, what):
        def timed(*args, **settings):
            now[0] += seconds
            return what(*args, **settings)

        return timed

    written = []
    monkeypatch.setattr(fit, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(fit, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(fit, "train_step", takes(1.0, step))
    monkeypatch.setattr(
        fit, "save_checkpoint", lambda *args: (written.append(args[1].step), takes(0.5, save)(*args))
    )
    run = pangen.fit(
        "realnvp", "moons", steps=104, device="cpu", out=tmp_path, recipe={"model.width": 4, "model.pairs": 1}
    )
    assert written == [1, 27, 53, 79, 104]
    assert run.card["checkpoint_seconds"] == 2.5
    assert run.card["seconds"] == 104 + 2.0  # the last one is not yet in it
