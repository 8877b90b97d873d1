"""What the codes of a model carry: reconstruction, divergence from the prior, active units, information, codebook."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from pangen.capabilities import HasLatent, HasPosterior
from pangen.data.dataset import Data
from pangen.evaluation.features import coordinates, flatten
from pangen.evaluation.intervals import mean_interval
from pangen.evaluation.likelihood import Examples
from pangen.evaluation.sharpness import sharpness
from pangen.families.latent.latent import LatentModel
from pangen.likelihoods import Mixture, Normal
from pangen.rng import chunks, generator
from pangen.run import Run
from pangen.training.codes import ACTIVE, Bound, active_units, bound, codebook_use

EXAMPLES = 500
"""Held-out examples that are encoded, at most; a codebook's use is counted over all that are given."""


def latent_of(run: Run, data: Data, examples: Examples, *, seed: int = 0) -> dict[str, Any]:
    """The field `latent` of a run whose model `HasLatent`, on held-out raw examples.

    Of every model: how far the decoded code, a posterior's mean, is from the example. Of models with a
    posterior also the nats of the bound and what they tell, or for tokens the use of the codebook.
    """
    space = cast("HasLatent", run.model).latent_space
    found = Codes(run, Examples(*(None if e is None else e[:EXAMPLES] for e in examples)), seed)
    with run.computing(), torch.no_grad():
        fields: dict[str, Any] = {"codes": space.kind, "shape": list(space.shape)}
        fields |= _round_trip(found, data)
        if space.kind == "tokens":
            every = Codes(run, examples, seed)
            use = codebook_use(run.model, every.z)
            book = {"perplexity": use.perplexity, "used": use.share, "size": space.levels}
            fields["codebook"] = {**book, "tokens": use.tokens, "samples": every.n}
            if isinstance(run.model, HasPosterior):
                fields |= _reconstruction(found, [-run.model.p(c.z, c.y).log_prob(c.x) for c in found.chunks])
        elif isinstance(run.model, LatentModel):
            fields |= _bound(found)
    return fields


@dataclass(frozen=True)
class _Chunk:
    """Some examples in the model's own space, the codec's volume, and their codes."""

    x: Tensor
    y: Tensor | None
    volume: Tensor
    z: Tensor


@dataclass(frozen=True)
class Codes:
    """A run, held-out raw examples, and their codes."""

    run: Run
    examples: Examples
    seed: int = 0

    @property
    def n(self) -> int:
        return len(self.examples.x)

    @cached_property
    def chunks(self) -> list[_Chunk]:
        """As many examples at once as the model samples."""
        run, model, found = self.run, self.run.model, []
        codes = cast("HasLatent", model)
        for start, stop, draw in chunks(self.n, model.chunk, "cpu", "latent", self.seed):
            x, volume = run.codec.encode(self.examples.x[start:stop], generator=draw)
            x = x.to(model.device)
            y = run.codec.encode_condition(self.examples.y[start:stop]) if run.codec.condition else None
            y = None if y is None else y.to(model.device)
            found.append(_Chunk(x, y, volume.cpu().double(), codes.encode(x, y)))
        return found

    @property
    def z(self) -> Tensor:
        """The code of each example `(N, *latent)`, the mean of a posterior."""
        return torch.cat([c.z for c in self.chunks])

    def decoded(self) -> Tensor:
        """What comes back `(N, *shape)`, in the model's own space."""
        codes = cast("HasLatent", self.run.model)
        return torch.cat([codes.decode(c.z, c.y).cpu() for c in self.chunks])

    def mean(self, values: Tensor, name: str, **facts: Any) -> dict[str, Any]:
        """A measure that is a mean over examples, with its interval."""
        values = values.double().cpu()
        mean = float(values.mean())
        same = bool((values == values[0]).all())  # as the errors of a bijection, which are 0
        interval = [mean, mean] if same else mean_interval(values, name, self.seed)
        return {"value": mean, "interval": interval, "samples": self.n, **facts}


def _round_trip(found: Codes, data: Data) -> dict[str, Any]:
    """How far examples are from what comes back from their codes, and how sharp that is."""
    again = found.decoded()
    if data.modality == "text":
        tokens = torch.cat([c.x for c in found.chunks]).cpu()
        wrong = (again != tokens).flatten(1).double().mean(1)
        return {"error": found.mean(wrong, "error", unit="share of wrong tokens")}
    real, again = flatten(data, found.examples.x), values_of(found.run, data, again)
    unit = "pixels in [0, 1]" if data.modality == "image" else coordinates(data)
    squares = ((again - real) ** 2).mean(1)
    fields = {"error": found.mean(squares, "error", unit=f"mean square, {unit}")}
    if data.modality == "image":
        shape = found.examples.x.shape
        fields["sharpness"] = sharpness(real.view(shape), again.view(shape), "round trip", found.seed)
    return fields


def values_of(run: Run, data: Data, x: Tensor) -> Tensor:
    """What `flatten` gives of raw examples, of those that a model puts out: grey means are not rounded."""
    space = run.codec.space
    if space.kind == "binary":
        return x.flatten(1).float()
    if space.is_grid and data.modality == "image":
        return (x.flatten(1).float() + 1) / 2
    return flatten(data, run.codec.decode(x))


def _reconstruction(found: Codes, nats: list[Tensor]) -> dict[str, Any]:
    """In nats of the raw data; behind a first stage there are none."""
    if found.run.codec.reason:
        return {}
    total = torch.cat([n.cpu().double() - c.volume for n, c in zip(nats, found.chunks, strict=True)])
    return {"reconstruction": found.mean(total, "reconstruction")}


def _bound(found: Codes) -> dict[str, Any]:
    """The two parts of the bound, and what of the divergence from the prior tells examples apart."""
    model = cast("LatentModel[Any]", found.run.model)
    posteriors = [model.q(c.x, c.y) for c in found.chunks]
    parts: list[Bound] = []
    for i, (q, c) in enumerate(zip(posteriors, found.chunks, strict=True)):
        parts.append(bound(model, q, c.x, c.y, generator(c.x.device, "latent", found.seed, i)))
    per_dim = [p.per_dim for p in parts if p.per_dim is not None]
    closed = len(per_dim) == len(parts)
    how = "closed form" if closed else "one sample each"
    active = active_units(found.z)
    fields = _reconstruction(found, [p.reconstruction for p in parts])
    fields["kl"] = found.mean(torch.cat([p.kl for p in parts]), "kl", by=how)
    fields["active_units"] = {
        "value": int(active.sum()), "of": active.numel(), "threshold": ACTIVE, "samples": found.n
    }  # fmt: skip
    if closed:
        each = torch.cat(per_dim).double().mean(0)
        fields["kl_per_dim"] = each.sort(descending=True).values.tolist()
    if all(isinstance(q, Normal) for q in posteriors):
        q = Normal(*(torch.cat([getattr(q, name) for q in posteriors]) for name in ("mean", "log_scale")))
        told = mutual_information(q, torch.cat([p.z for p in parts]))
        facts = {"at_most": math.log(found.n), "kind": "lower bound"}
        fields["mutual_information"] = found.mean(told, "information", **facts)
        fields["kl_of_aggregate"] = fields["kl"]["value"] - fields["mutual_information"]["value"]
    return fields


def mutual_information(q: Normal, z: Tensor) -> Tensor:
    """log q(z given x) - log q(z) in nats `(N,)` at one code of each of N examples: its mean estimates I_q(x; z).

    I_q(x; z) = E KL(q(z given x) || p(z)) - KL(q(z) || p(z)) (Hoffman and Johnson 2016, Section 2), with the
    mean of the N posteriors for q(z). Each example's own is among them, so that no value exceeds log N,
    and the estimate is a lower bound.
    """
    mean, log_scale, z = (t.flatten(1).double() for t in (q.mean, q.log_scale, z))
    q = Normal(mean, log_scale)
    return q.log_prob(z) - Mixture(q, len(z)).log_prob(z)
