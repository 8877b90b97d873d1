"""The whole obligation of a family member: its losses, and how to draw samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeVar, final

import torch
from torch import Tensor, nn

from pangen import parallel
from pangen.rng import Chunk, chunks
from pangen.space import Batch, Loss, Progress, Space


class GenerativeModel(nn.Module):
    """A model of p(x), or of p(x given y), over a `Space`.

    A family member writes `loss` (or `steps`, when it has several players) and `trajectory`.
    What else it can do it shows by having the methods of a protocol in `capabilities`. Its
    constructor takes the space and then keyword-only settings, typed and with defaults: these
    settings are the model's part of a recipe.
    """

    space: Space
    chunk: int = 64
    """Samples and likelihoods are computed in chunks of this one size."""

    training_defaults: ClassVar[dict[str, Any]] = {}
    """Fields of `recipes.Training` this family sets differently (rates of its paper)."""
    selection: ClassVar[Literal["likelihood", "loss", "samples"]] = "likelihood"
    """What decides on validation data which weights are best."""

    paces: Mapping[str, float] = MappingProxyType({})
    """Each player's learning rate over `training.lr`; 1 of those that are not named."""

    running: ClassVar[tuple[str, ...]] = ()
    """Buffers that are running means of what training sees, here as in any module: several processes average them."""

    teacher: str = ""
    """Folder of a run to learn from, which the recipe names; only training needs it. Empty: none."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        for tensor in (*self.parameters(), *self.buffers()):
            return tensor.device
        return torch.device("cpu")

    # -- learning -------------------------------------------------------------------------------

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        """The objective of a one-player model: a mean over the examples of the batch."""
        raise NotImplementedError(f"{type(self).__name__} defines neither `loss` nor `steps`")

    def steps(self, batch: Batch, progress: Progress) -> Iterator[tuple[str, Loss]]:
        """One training step as its paper writes it: whose turn it is, and that player's loss.

        Code after a `yield` sees the updated player. No context manager is open across a `yield`.
        """
        yield "model", self.loss(batch, progress)

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Disjoint lists of the parameters that each player moves."""
        return {"model": [p for p in self.parameters() if p.requires_grad]}

    def initialize(self, batch: Batch) -> None:
        """Data-dependent start: actnorm, codebook, biases at the data's mean. Called once."""

    def learn_from(self, teacher: GenerativeModel) -> None:
        """Take what is to be had from the trained model that `teacher` names. Called once, after `initialize`.

        It is frozen, sees the same space, and must not become part of this module.
        """
        raise NotImplementedError(f"{type(self).__name__} names a teacher and defines no `learn_from`")

    def after_step(self, progress: Progress) -> None:
        """What follows every step: codebook averages, target networks."""

    def calibrate(self, generator: torch.Generator, *, thorough: bool = True) -> None:
        """Fill the buffers that follow from the weights, such as a partition function.

        Called before the model is judged: at each validation, where it need only be good enough
        to rank weights, and thoroughly when training has ended.
        """

    # -- sampling -------------------------------------------------------------------------------

    def trajectory(self, n: int, y: Tensor | None = None, *, generator: torch.Generator) -> Iterator[Tensor]:
        """States on the way to `n` samples, each `(n, *space.shape)`; the last is the sample.

        All noise comes from `generator`, drawn for all `n` examples at full length. `y`
        `(n, *condition.shape)` holds conditions, the null one where there is none. A family adds its
        settings, keyword-only and with defaults. A state may be the tensor of the one before, filled
        further: who keeps states keeps copies.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no `trajectory`")

    @final
    def sample(self, n: int, y: Tensor | None = None, *, seed: int = 0, **how: Any) -> Tensor:
        """Draw `n` samples `(n, *space.shape)`; the i-th is a function of (seed, i, y[i]) alone."""
        was_training = self.training
        self.eval()
        try:
            drawn = parallel.spread(
                chunks(n, self.chunk, self.device, "sample", seed), lambda chunk: self._drawn(chunk, y, how)
            )
            return torch.cat(drawn).to(self.device) if drawn else torch.empty(0, *self.space.shape)
        finally:
            self.train(was_training)

    def _drawn(self, chunk: Chunk, y: Tensor | None, how: Mapping[str, Any]) -> Tensor:
        given = None if y is None else y[chunk.start : chunk.stop]
        condition = self.space.filled(given, self.chunk, self.device)
        states = self.trajectory(self.chunk, condition, generator=chunk.generator, **how)
        return last(states)[: chunk.stop - chunk.start]


State = TypeVar("State")


def last(states: Iterator[State]) -> State:
    """Run a trajectory to its end without recording gradients, and return its last state."""
    state: State | None = None
    while True:
        with torch.no_grad():  # entered around each step, never held open across a yield
            following = next(states, None)
        if following is None:
            break
        state = following
    if state is None:
        raise RuntimeError("a trajectory yielded no state")
    return state
