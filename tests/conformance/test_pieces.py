"""The gradients of a batch's pieces add up to its own, whatever the model; what cannot is named."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from cases import ONE_EACH, Case
from torch.utils._python_dispatch import TorchDispatchMode

from pangen.data.batches import Batches, Piece
from pangen.families.diffusion import masked_diffusion, vdm, weighted
from pangen.precision import precision
from pangen.recipes import Training, build_model
from pangen.space import Batch
from pangen.training.loop import State, train_step
from pangen.training.pieces import running

ROWS = 14
OWN = {"chains", "num_batches_tracked"}
"""Buffers that each process keeps for itself."""
SHARED = {"codebook", "counts", "sums", "low", "high"}
"""Buffers that are alike in all processes, as they follow from weights or from what the processes sum up."""
COUPLED = {
    "rbm": "its Markov chains go on with every piece",
    "ebm": "its Markov chains go on with every piece",
    "dcgan": "batch normalisation",
    "stylegan": "the critic sees the spread of a batch",
    "bert": "a mean over the hidden characters of a batch",
    "seq2seq": "a mean over the characters of a batch",
    "vdm": "the reconstruction is that of the first eighth of a batch",
}
"""Models whose examples meet in the loss, and where; docs/several-machines.md names them."""


LEARNING = [case for case in ONE_EACH if "closed_form" not in case.entry.capabilities]


class Injected(TorchDispatchMode):
    """Noise that belongs to examples: all rows of a batch are drawn, whichever come here."""

    def __init__(self, rows: range) -> None:
        super().__init__()
        self.rows, self.drawn = rows, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        random = torch.Tag.nondeterministic_seeded in func.tags and "attention" not in str(func)
        if not random or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        self.drawn += 1
        torch.default_generator.manual_seed(self.drawn)
        if "multinomial" in str(func):  # so many draws
            args = (args[0].expand(args[1], -1), 1, *args[2:])
        place = next((p for p in map(self.place, args) if p is not None), None)
        if place is None:  # of the batch as a whole
            return func(*args, **kwargs)
        found = func(*(self.whole(a, place) for a in args), **kwargs)
        if isinstance(found, tuple):
            return tuple(self.mine(x, place) for x in found)
        found = self.mine(found, place)
        if "multinomial" in str(func):
            found = found[:, 0]
        return args[0].copy_(found) if func._schema.is_mutable else found

    def place(self, a: object) -> int | None:
        """The dimension of the examples; the first may hold them several times, one after the other."""
        shape, n = (
            (list(a.shape) if isinstance(a, torch.Tensor) else a if isinstance(a, list) else []),
            len(self.rows),
        )
        return shape.index(n) if n in shape else 0 if shape and shape[0] and shape[0] % n == 0 else None

    def whole(self, a: object, place: int) -> object:
        """A tensor with a row for every example of the batch, ours in their places; or its size."""
        if self.place(a) is None:
            return a
        if not isinstance(a, torch.Tensor):
            return [*a[:place], a[place] // len(self.rows) * ROWS, *a[place + 1 :]]
        ours = torch.arange(a.shape[place]).unflatten(0, (-1, len(self.rows)))
        every = ours[:, :1].repeat(1, ROWS)
        every[:, self.rows.start : self.rows.stop] = ours
        return a.index_select(place, every.flatten())

    def mine(self, x: torch.Tensor, place: int) -> torch.Tensor:
        """The rows of ours."""
        every = torch.arange(x.shape[place]).unflatten(0, (-1, ROWS))
        return x.index_select(place, every[:, self.rows.start : self.rows.stop].flatten())


def gradients(state: State, batch: Batch, count: int, settings: Training) -> dict[str, torch.Tensor]:
    """Of a step whose batch comes in so many pieces, each with the noise of its rows."""
    state, pieces = copy.deepcopy(state), []
    for rows in torch.arange(ROWS).tensor_split(count):
        part = Batch(batch.x[rows], None if batch.y is None else batch.y[rows])
        pieces.append(Piece(part, len(rows) / ROWS, Injected(range(int(rows[0]), int(rows[-1]) + 1))))
    train_step(state, pieces, settings)
    return {name: w.grad for name, w in state.model.named_parameters() if w.grad is not None}


@pytest.fixture
def levels(monkeypatch):
    """Noise levels of examples by themselves: models spread them evenly over a batch, each piece over itself."""
    for module in (masked_diffusion, vdm, weighted):
        monkeypatch.setattr(module, "stratified", lambda n, device: torch.rand(n, device=device))


@pytest.mark.parametrize("case", LEARNING, ids=str)
def test_gradients_of_pieces_add_up_to_that_of_the_batch(case: Case, levels):
    with precision("float64"):
        recipe = replace(case.recipe(steps=10, clip=None, ema=0.0), dtype="float64")
        train = Batches(case.data.train, case.codec, ROWS, 0, "cpu")
        model = build_model(recipe, case.codec.space)
        torch.manual_seed(0)
        with torch.no_grad():
            model.initialize(train.first(100))
        state = State.start(model, recipe.training)
        whole, parts = (gradients(state, train[0], count, recipe.training) for count in (1, 2))
    assert whole.keys() == parts.keys()
    apart = max(
        float((whole[name] - parts[name]).abs().max() / whole[name].abs().max().clamp(min=1e-9))
        for name in whole
    )
    if case.entry.name in COUPLED:
        assert apart > 1e-6, "it need not be on the list"
    else:
        assert apart < 1e-9  # float64 rounding of two orders of summation, over cancellation


@pytest.mark.parametrize("case", LEARNING, ids=str)
def test_what_a_step_changes_beside_weights_is_known_to_several_processes(case: Case):
    """A buffer that went another way in each process, and nobody averaged, would part the processes."""
    recipe = case.recipe(steps=10, ema=0.0)
    train = Batches(case.data.train, case.codec, ROWS, 0, "cpu")
    model = build_model(recipe, case.codec.space).train()
    with torch.no_grad():
        model.initialize(train.first(100))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    state = State.start(model, recipe.training)
    for _ in range(2):
        train_step(state, train.pieces(state.step, 1), recipe.training)
    named = {f"{at}.{name}".lstrip(".") for at, module in model.named_modules() for name in running(module)}
    assert named <= before.keys()
    for name, buffer in model.named_buffers():
        if name not in named and name.rpartition(".")[2] not in OWN | SHARED:
            assert torch.equal(buffer.nan_to_num(7), before[name].nan_to_num(7)), name
