"""`gpt` beside Hugging Face's GPT-2 and x-transformers, and the cache of pixel models beside naive sampling.

Transformers are of nanoGPT's size for a processor: 4 layers, 4 heads, 128 wide, 65 tokens. Training takes 12 windows of
64 tokens, AdamW (fused) and gradients clipped; decoding draws 128 tokens of one text and of eight, caches on both
sides. Naive sampling of 28 x 28 pixels runs the whole network anew for each pixel; it is timed on `PIXELS` of them,
spread over the image, and made as many times longer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from pangen.families.autoregressive.gpt import GPT
from pangen.families.autoregressive.pixelcnn import PixelCNN
from pangen.families.autoregressive.pixelrnn import PixelRNN
from pangen.recipes import Training
from pangen.rng import chunks
from pangen.samplers.tokens import NextToken, inverse_cdf
from pangen.space import Batch, Space
from peers.pair import BOTH, FULL, OURS, Pair, Side, on_the_index, parameters, trained

WIDTH, DEPTH, HEADS, LEVELS, LENGTH, BATCH, DECODED = 128, 4, 4, 65, 64, 12, 128
HUGGING_FACE, X_TRANSFORMERS = on_the_index("transformers"), on_the_index("x-transformers")
IMAGES, SIDE, PIXELS = 16, 28, 28


def pairs() -> Iterator[Pair]:
    for package, make in ((HUGGING_FACE, gpt2), (X_TRANSFORMERS, x_transformer)):
        for precision, mine, its in (
            (FULL, "full", False),
            (OURS, "bfloat16", False),
            (BOTH, "bfloat16", True),
        ):
            facts = {"batch": BATCH, "window": LENGTH}
            yield Pair(
                "gpt", "training", package, partial(ours, mine), partial(theirs, make, its), precision, facts
            )
        for texts in (1, 8):
            facts = {"texts": texts, "tokens": DECODED}
            yield Pair("gpt", "decoding", package, partial(our_texts, texts), partial(their_texts, make, texts), FULL, facts)  # fmt: skip
    for name, make in (("pixelcnn", PixelCNN), ("pixelrnn", PixelRNN)):
        yield Pair(
            name, "sampling", "naive sampling", partial(cached, make), partial(naive, make), FULL, {"images": IMAGES}
        )  # fmt: skip


def tokens() -> Tensor:
    return torch.randint(LEVELS, (BATCH, LENGTH))


def gpt(length: int, precision: str = "full") -> GPT:
    space = Space("tokens", (length,), levels=LEVELS)
    return GPT(space, width=WIDTH, depth=DEPTH, heads=HEADS, dropout=0.0, precision=precision)


def ours(precision: str) -> Side:
    return trained(
        gpt(LENGTH, precision), [Batch(tokens())], Training(batch=BATCH, lr=1e-3, weight_decay=0.1)
    )


Made = tuple[nn.Module, Callable[[Tensor], Tensor], Callable[[int], Tensor]]
"""A network, its loss on tokens, and its way to draw texts."""


def gpt2(length: int) -> Made:
    logging.disable(logging.WARNING)
    from transformers import GPT2Config, GPT2LMHeadModel

    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    size = {"n_embd": WIDTH, "n_layer": DEPTH, "n_head": HEADS, "n_positions": length}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=LEVELS, **size, **off, bos_token_id=0, eos_token_id=None))

    def draw(texts: int) -> Tensor:
        start = torch.zeros(texts, 1, dtype=torch.long)
        how = {"max_new_tokens": DECODED, "do_sample": True, "top_k": 0, "pad_token_id": 0}
        return model.generate(start, attention_mask=torch.ones_like(start), **how)[:, 1:]

    return model, lambda x: model(x, labels=x).loss, draw


def x_transformer(length: int) -> Made:
    from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

    layers = Decoder(dim=WIDTH, depth=DEPTH, heads=HEADS, attn_dim_head=WIDTH // HEADS, attn_flash=True)
    model = AutoregressiveWrapper(
        TransformerWrapper(num_tokens=LEVELS, max_seq_len=length, attn_layers=layers)
    )

    def draw(texts: int) -> Tensor:
        return model.generate(torch.zeros(texts, 1, dtype=torch.long), DECODED, filter_kwargs={"k": LEVELS})

    # one token more, as it predicts one less than it is given
    return model, lambda x: model(torch.cat([x, x[:, :1]], 1)), draw


def theirs(make: Callable[[int], Made], rounds: bool) -> Side:
    model, loss_of, _ = make(LENGTH + 1)
    how = {"lr": 1e-3, "betas": (0.9, 0.99), "weight_decay": 0.1, "fused": True}
    optimizer, x = torch.optim.AdamW(model.train().parameters(), **how), tokens()

    def step() -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=rounds):
            loss = loss_of(x)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        return loss.detach()

    return Side(step, parameters(model))


def our_texts(texts: int) -> Side:
    model = gpt(DECODED).eval().requires_grad_(False)

    def draw() -> Tensor:
        drawn = NextToken().stream(model, texts, DECODED, context=DECODED, generator=torch.Generator())
        return torch.stack([step.token for step in drawn], 1)

    return Side(draw, parameters(model))


def their_texts(make: Callable[[int], Made], texts: int) -> Side:
    model, _, draw = make(DECODED + 1)
    model.eval().requires_grad_(False)
    return Side(torch.no_grad()(partial(draw, texts)), parameters(model))


Pixels = PixelCNN | PixelRNN


def pixels(make: Callable[[Space], Pixels]) -> Pixels:
    torch.manual_seed(0)
    model = make(Space("binary", (1, SIDE, SIDE), levels=2)).eval().requires_grad_(False)
    model.chunk = IMAGES
    for parameter in model.parameters():  # so that pixels depend on one another
        parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def cached(make: Callable[[Space], Pixels]) -> Side:
    model = pixels(make)
    return Side(lambda: model.sample(IMAGES, seed=0), parameters(model))


@torch.no_grad()
def naive(make: Callable[[Space], Pixels]) -> Side:
    """The whole network for each pixel, with the noise of `cached`."""
    model = pixels(make)
    ((_, _, noise),) = chunks(IMAGES, IMAGES, "cpu", "sample", 0)
    u = torch.rand(SIDE * SIDE, IMAGES, generator=noise)
    x = model.sample(IMAGES, seed=0)
    every = SIDE * SIDE // PIXELS

    @torch.no_grad()
    def draw() -> Tensor:
        for t in range(0, SIDE * SIDE, every):
            i, j = divmod(t, SIDE)
            logits = model.logits(model.raw(x, None)[:, :, 0, i, j])
            if not torch.equal(inverse_cdf(logits, u[t]).float(), x[:, 0, i, j]):
                raise SystemExit(f"naive sampling draws other pixels than the cache at {i}, {j}.")
        return x

    return Side(draw, parameters(model), times=every)
