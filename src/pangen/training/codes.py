"""What codes carry: the two parts of the bound, active units, use of a codebook."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from pangen.capabilities import HasLatent
from pangen.families.latent.latent import LatentModel, Reparametrised
from pangen.families.latent.vae import kl_from_standard
from pangen.likelihoods import Normal, log_normal
from pangen.model import GenerativeModel
from pangen.networks.quantise import Quantiser, perplexity

ACTIVE = 0.01
"""Variance over data of the posterior's mean above which a dimension of a code is active (Burda et al. 2016, Section 5)."""


class Bound(NamedTuple):
    """Minus the bound with one sample, in its two parts: nats of each example `(B,)`."""

    z: Tensor
    """The sample `(B, *latent)`."""
    reconstruction: Tensor
    """-log p(x given z)."""
    kl: Tensor
    """KL(q(z given x) || p(z)), in closed form or from the one sample."""
    per_dim: Tensor | None
    """Of each dimension `(B, latent)` where there is a closed form: a diagonal against the standard normal."""


def bound(
    model: LatentModel[Any], q: Reparametrised, x: Tensor, y: Tensor | None, generator: torch.Generator
) -> Bound:
    """The bound at a code drawn from `q`, the posterior of `x`."""
    noise = torch.randn(len(x), *model.latent_space.shape, generator=generator, device=x.device)
    z = q.at(noise)
    reconstruction = -model.p(z, y).log_prob(x)
    if isinstance(q, Normal) and is_standard(model, z):
        each = kl_from_standard(q).flatten(1)
        return Bound(z, reconstruction, each.sum(1), each)
    return Bound(z, reconstruction, -reconstruction - model.log_weights(q, x, y, noise[None])[0], None)


def is_standard(model: LatentModel[Any], z: Tensor) -> bool:
    """Whether the prior is the standard normal: it has that density at `z`."""
    zero = torch.zeros_like(z)
    return torch.allclose(model.log_prior(z), log_normal(z, zero, zero), rtol=1e-4, atol=1e-3)


def active_units(mean: Tensor) -> Tensor:
    """Which dimensions `(latent,)` move with the data, from posterior means `(N, *latent)`."""
    return mean.flatten(1).double().var(0) > ACTIVE


class Use(NamedTuple):
    """How codebooks are used, on average over them."""

    perplexity: float
    """exp of the entropy of how often each entry occurs: the number of entries in even use."""
    share: float
    """Of the entries that occur at all."""
    tokens: int
    """That each codebook gave."""


def codebook_use(model: GenerativeModel, codes: Tensor) -> Use:
    """From tokens `(N, length)`; of a row, codebooks that quantise each other's remainders take turns."""
    size = cast("HasLatent", model).latent_space.levels
    depth = next((m.depth for m in model.modules() if isinstance(m, Quantiser)), 1)
    books = codes.flatten(1).unflatten(1, (-1, depth)).flatten(0, 1).unbind(1)
    even = torch.stack([perplexity(book, size) for book in books])
    share = torch.stack([book.bincount(minlength=size) > 0 for book in books])
    return Use(float(even.mean()), float(share.double().mean()), len(books[0]))
