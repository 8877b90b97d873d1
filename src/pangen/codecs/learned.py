"""A trained run as a codec: a model behind it is the prior of that run's codes, and both are one model in two stages."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from pangen.capabilities import HasLatent, HasPosterior
from pangen.codecs.codec import Codec, Encoded
from pangen.errors import PangenError
from pangen.likelihoods import Normal, Point
from pangen.precision import precision
from pangen.rng import generator, whole
from pangen.space import Distribution, Space, Trust

if TYPE_CHECKING:
    from pangen.data.dataset import Data
    from pangen.run import Run

EXAMPLES = 10_000
"""Of the training split, by whose codes the mean and deviation are found, at most."""


@dataclass(frozen=True, kw_only=True)
class LearnedCodec(Codec):
    """Codes z of a first stage: real ones standardised, each entry of a vector or channel of a map; tokens as they are.

    z ~ q(z given x), and log p(x) >= E[log p(z) + log p(x given z) - log q(z given x)]: the bound of the
    model in two stages, whose prior p(z) is the model behind this codec. Where the first stage has no q
    there is no bound, and no likelihood.

    Samples are drawn from p(x given z), as the bound has them. Other codes are decoded to its mean: a bit is the
    more probable one, and a grey level or a number comes without the noise that the first stage leaves to its pixels.
    """

    name: ClassVar[str] = "learned"
    kind: ClassVar[Trust] = "lower bound"
    run: str
    """The folder of the first stage."""
    weights: str
    """A hash of its weights."""
    code_shape: tuple[int, ...]
    code_levels: int
    """Of codes that are tokens; 0: real numbers."""
    bound: bool
    """Whether the first stage has a distribution of codes."""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @classmethod
    def applies(cls, data: Data) -> bool:
        return bool(data.encoder)

    @classmethod
    def fit(cls, data: Data, **settings: Any) -> Self:
        weights = digest(data.encoder)
        first = first_stage(data.encoder, weights, "cpu")
        space = codes_of(first).latent_space
        raw = data.train.in_memory().first(EXAMPLES).all(generator("cpu", "codes", "draw"))[0]
        q = [part.q for part in parts(first, raw, generator("cpu", "codes", "encode"))]
        real = space.kind == "real"
        # all mass on one of uncountably many values has no density that could be compared
        bound = isinstance(first.model, HasPosterior) and not (real and isinstance(q[0], Point))
        mean: tuple[float, ...] = ()
        deviation: tuple[float, ...] = ()
        if real:
            z = torch.cat([part.sample(generator("cpu", "codes", i)) for i, part in enumerate(q)]).double()
            z = z.movedim(1, -1).flatten(0, -2)  # (values, entries or channels)
            std = z.std(0, correction=0)
            mean, deviation = tuple(z.mean(0).tolist()), tuple(torch.where(std > 0, std, 1.0).tolist())
        return cls(
            run=data.encoder,
            weights=weights,
            code_shape=tuple(space.shape),
            code_levels=0 if real else space.levels,
            bound=bound and not first.codec.reason,
            mean=mean,
            std=deviation,
            **settings,
        )

    @property
    def data_space(self) -> Space:
        return Space("tokens" if self.code_levels else "real", self.code_shape, self.code_levels)

    @property
    def reason(self) -> str:
        if self.bound:
            return ""
        return f"its first stage {self.run} gives codes without a probability, and nats of codes are not nats of data"

    @property
    def outer(self) -> Codec:
        return self.first("cpu").codec.outer

    def first(self, device: torch.device | str) -> Run:
        """The first stage."""
        return first_stage(self.run, self.weights, str(device))

    def encode(self, raw: Any, *, generator: torch.Generator | None = None) -> Encoded:
        first = self.first(raw.device if isinstance(raw, Tensor) else "cpu")
        p = first.model.p if self.bound and isinstance(first.model, HasPosterior) else None
        codes, volumes = [], []
        for x, volume, q in parts(first, raw, generator):
            z = q.sample(generator)
            with torch.no_grad(), precision(first.recipe.dtype):
                known = math.nan if p is None else p(z).log_prob(x) - q.log_prob(z)
            codes.append(z)
            volumes.append(volume + known)
        return Encoded(self._standard(torch.cat(codes)), torch.cat(volumes) - self._log_scale)

    def decode(self, x: Tensor, *, generator: torch.Generator | None = None) -> Any:
        first = self.first(x.device)
        model, size, n = first.model, first.model.chunk, len(x)
        drawn = model.p if generator is not None and isinstance(model, HasPosterior) else None
        z = x
        if not self.code_levels:
            z = (x * self._along(self.std, x) + self._along(self.mean, x)).to(
                getattr(torch, first.recipe.dtype)
            )
        found = []
        with torch.no_grad(), precision(first.recipe.dtype):
            for start in range(0, n, size):
                index = whole(start, size, n, x.device)
                code = z[index]
                part = codes_of(first).decode(code) if drawn is None else drawn(code).sample(generator)
                found.append(part[: n - start])
            return first.codec.decode(torch.cat(found), generator=generator)

    def ready(self, raw: Any, device: torch.device | str) -> Callable[[Tensor], Tensor] | None:
        """Codes drawn anew from posteriors that are found once."""
        first = self.first(device)
        if first.codec.kind != "exact":  # whose own noise is drawn anew as well
            return None
        found = [part.q for part in parts(first, raw, None)]
        if all(isinstance(q, Point) for q in found):
            mean = torch.cat([q.mean for q in found])
            return lambda index: self._standard(mean[index])
        if all(isinstance(q, Normal) for q in found):
            mean, log_scale = (torch.cat([getattr(q, name) for q in found]) for name in ("mean", "log_scale"))
            return lambda index: self._standard(Normal(mean[index], log_scale[index]).sample())
        return None

    def dims(self, raw: Any) -> int:
        return self.outer.dims(raw)

    def _standard(self, z: Tensor) -> Tensor:
        if self.code_levels:
            return z
        z = z.to(torch.get_default_dtype())
        return (z - self._along(self.mean, z)) / self._along(self.std, z)

    @property
    def _log_scale(self) -> float:
        """log of the volume that standardising divides by."""
        each = math.prod(self.code_shape) // max(len(self.std), 1)
        return each * sum(map(math.log, self.std))

    def _along(self, values: tuple[float, ...], z: Tensor) -> Tensor:
        return z.new_tensor(values).view(-1, *[1] * (len(self.code_shape) - 1))


class Part(NamedTuple):
    """Some examples in the first stage's own space, the volume of its codec, and their codes."""

    x: Tensor
    volume: Tensor
    q: Distribution


def parts(first: Run, raw: Any, generator: torch.Generator | None) -> Iterator[Part]:
    """Examples and their codes, as many at once as the first stage takes."""
    for start in range(0, len(raw), first.model.chunk):
        yield _part(first, raw[start : start + first.model.chunk], generator)


def _part(first: Run, raw: Any, generator: torch.Generator | None) -> Part:
    model = first.model
    with torch.no_grad(), precision(first.recipe.dtype):
        x, volume = first.codec.encode(
            raw.to(model.device) if isinstance(raw, Tensor) else raw, generator=generator
        )
        x, volume = x.to(model.device), volume.to(model.device)
        q = model.q(x) if isinstance(model, HasPosterior) else Point(codes_of(first).encode(x))
        return Part(x, volume, q)


def code_space(run: str) -> Space:
    """Of the codes of a run."""
    return codes_of(first_stage(run, digest(run), "cpu")).latent_space


def sort(space: Space) -> frozenset[str]:
    """What a model has to know to take codes of this space, in the words of `Codec.shows`."""
    if space.kind == "tokens":
        return frozenset({"sequence", "tokens"})
    return frozenset({"map" if space.is_image else "vector", "real"})


def digest(run: str) -> str:
    """A hash of a run's weights, 16 hexadecimal digits."""
    from pangen.folder import WEIGHTS

    try:
        return hashlib.sha256((Path(run) / WEIGHTS).read_bytes()).hexdigest()[:16]
    except OSError:
        raise PangenError(
            f"the first stage {run} is gone, and codes mean nothing without it: put the folder back, or train "
            "both stages again."
        ) from None


@lru_cache(maxsize=4)
def first_stage(run: str, weights: str, device: str) -> Run:
    """A run with these weights, on `device` and never to be trained."""
    from pangen.run import load_run

    if digest(run) != weights:
        raise PangenError(
            f"the weights of the first stage {run} have changed since its codes were modelled: put the old ones "
            "back, or fit the model of its codes again."
        )
    first = load_run(run, device="cpu")
    codes_of(first)
    first.model.to(device).requires_grad_(False)
    return first


def codes_of(first: Run) -> HasLatent:
    """The model of a first stage, which knows codes."""
    if not isinstance(first.model, HasLatent):
        raise PangenError(f"the {first.entry.name} in {first.path} has no codes; give another first stage.")
    return first.model
