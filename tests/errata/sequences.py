"""Mistakes with sequences, attention and recurrence."""

from __future__ import annotations

import math

import torch
from mistake import Damage, mistake, near, outcome
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

import pangen
from pangen.families.autoregressive.gpt import GPT
from pangen.families.autoregressive.rnn import RNN
from pangen.networks.transformer import CausalTransformer
from pangen.space import Batch, Progress, Space

TEXT = Space("tokens", (6,), levels=8)


def gpt(space: Space = TEXT) -> GPT:
    torch.manual_seed(0)
    return GPT(space, width=16, depth=1, heads=2).eval()


def layer(**settings: bool) -> nn.TransformerEncoderLayer:
    torch.manual_seed(0)
    return nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, **settings).eval()


@mistake(10, "Time and batch flattened before the shift")
def flattened() -> list[Damage]:
    """Of 16 texts of 32 tokens the targets `x[:, 1:]` are 496 and the flattened logits 512; where shapes happen to fit,
    each text ends in the beginning of the next. **Right:** keep (batch, time, vocabulary), shift along time, then
    flatten both."""
    x, logits = torch.zeros(16, 32, dtype=torch.long), torch.zeros(16, 32, 8)
    wrong = outcome(lambda: cross_entropy(logits.view(-1, 8), x[:, 1:].flatten()))
    right = outcome(lambda: cross_entropy(logits[:, :-1].flatten(0, 1), x[:, 1:].flatten()))
    return [Damage("cross entropy", wrong, right, (wrong, right) == ("ValueError", "works"))]


def influence_of_time(masked: bool) -> Tensor:
    """How far the output at each place `(T, T)` moves when the token at another changes."""
    x, model = torch.randint(8, (1, 6), generator=torch.Generator().manual_seed(0)), gpt()
    embedding, plain = model.before.embed[0], layer(batch_first=True)

    def outputs(tokens: Tensor) -> Tensor:
        return model.logits(tokens, None)[0, 1:] if masked else plain(embedding(tokens))[0, :-1]

    moved = torch.zeros(5, 5)
    with torch.no_grad():
        for i in range(1, 6):
            other = x.clone()
            other[0, i] = (x[0, i] + 1) % 8
            moved[:, i - 1] = (outputs(other) - outputs(x)).abs().amax(1)
    return moved


@mistake(11, "A decoder without a causal mask")
def no_mask() -> list[Damage]:
    """The network reads the token it is to predict: its loss falls to nothing and it cannot write. **Right:** a mask, and
    a test that changes the last token and looks at the first output."""
    wrong, right = (float(influence_of_time(masked)[0, -1]) for masked in (False, True))
    return [Damage("output 0 when the last token changes", wrong, right, wrong > 1e-3 and right == 0)]


@mistake(12, "The batch, taken for time")
def batch_for_time() -> list[Damage]:
    """PyTorch's layers take (time, batch, width) unless told otherwise; given (batch, time, width) they attend across
    examples. **Right:** batch first, and a test that changes another example."""
    x, model = torch.randint(8, (4, 6), generator=torch.Generator().manual_seed(0)), gpt()
    other = x.clone()
    other[3] = (x[3] + 1) % 8
    plain, embedding = layer(), model.before.embed[0]
    with torch.no_grad():
        wrong = float((plain(embedding(other))[0] - plain(embedding(x))[0]).abs().max())
        right = float((model.logits(other, None)[0] - model.logits(x, None)[0]).abs().max())
    return [Damage("example 0 when example 3 changes", wrong, right, wrong > 1e-3 and right == 0)]


@mistake(13, "Tokens without positions")
def no_positions() -> list[Damage]:
    """Attention sees a set. Without positions "dog bites man" and "man bites dog" go on alike, whatever is learnt.
    **Right:** embeddings of tokens, positions on both sides, a head over the vocabulary."""
    tokens, model = torch.tensor([[1, 2, 3], [2, 1, 3]]), gpt()
    plain = layer(batch_first=True)
    mask = nn.Transformer.generate_square_subsequent_mask(3)
    with torch.no_grad():
        blind = plain(model.before.embed[0](tokens), src_mask=mask, is_causal=True)[:, -1]
        seen = model.next_logits(tokens)[0]
    wrong, right = (float((a[0] - a[1]).abs().max()) for a in (blind, seen))
    return [
        Damage(
            "what follows two orders of the same tokens, apart", wrong, right, wrong < 1e-6 and right > 1e-4
        )
    ]


class Ornamental(nn.Module):
    """Attention as it is often written down: projections defined, and the input used."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ x.mT / math.sqrt(16)).softmax(-1) @ x


@mistake(14, "Projections that are never used, a mask of -1e20")
def ornamental_attention() -> list[Damage]:
    """What is not in the forward pass gets no gradient. In half precision -1e20 is minus infinity, and a row that sees
    nothing is no number. **Right:** project, divide by the root of a *head's* width, and leave the mask to
    `scaled_dot_product_attention`."""
    torch.manual_seed(0)
    x, found = torch.randn(2, 5, 16), []
    for net in (Ornamental(), CausalTransformer(16, 1, 2, 0.0)):
        (net(x) * torch.randn(2, 5, 16)).sum().add(0 * sum(p.sum() for p in net.parameters())).backward()
        found.append(
            sum(bool(p.grad.abs().max() > 0) for p in net.parameters()) / len(list(net.parameters()))
        )
    half = torch.full((1, 4), -1e20).half().softmax(-1)
    fused = scaled_dot_product_attention(*torch.randn(3, 1, 4, 8), is_causal=True)
    lost = float(half.isnan().double().mean()), float(fused.isnan().double().mean())
    return [
        Damage("share of the weights that learn", *found, found == [0.0, 1.0]),
        Damage("numbers lost to the mask", *lost, lost == (1.0, 0.0)),
    ]


@mistake(15, "An embedding sized by the longest text")
def embedding_by_length() -> list[Damage]:
    """The table has a row for each token of the vocabulary; how long texts are is another number. **Right:** as many
    rows as tokens."""
    x, space = torch.tensor([[5, 40, 199]]), Space("tokens", (3,), levels=200)
    wrong = outcome(lambda: nn.Embedding(3, 16)(x))
    right = outcome(lambda: gpt(space).log_prob(x))
    return [Damage("looking up token 199", wrong, right, (wrong, right) == ("IndexError", "works"))]


@mistake(16, "A hidden state carried through the backward pass")
def carried_state() -> list[Damage]:
    """A state kept from the batch before still hangs on that batch's graph, which is gone. **Right:** detach it, which
    is truncated backpropagation through time, or start anew."""
    net, x = nn.GRU(4, 4), torch.randn(5, 1, 4)

    def two_steps(cut: bool) -> None:
        h = None
        for _ in range(2):
            out, h = net(x, h.detach() if cut and h is not None else h)
            out.sum().backward()

    def pangen_steps() -> None:
        model = RNN(TEXT, width=8)
        for step in range(2):
            model.loss(Batch(torch.zeros(2, 6, dtype=torch.long)), Progress(step, 2)).total.backward()

    wrong, right = outcome(lambda: two_steps(False)), outcome(lambda: two_steps(True))
    proven = wrong == "RuntimeError" and right == outcome(pangen_steps) == "works"
    return [Damage("the second step", wrong, right, proven)]


@mistake(17, "Random labels for a recurrent network")
def random_labels() -> list[Damage]:
    """Examples of recurrent networks often train on targets drawn by chance: the loss falls to that of chance, and
    nothing is learnt. **Right:** the target is the next token; then a text that repeats itself costs nothing."""
    generator, letters = torch.Generator().manual_seed(0), "abcdefgh"
    x = torch.arange(8000) % 8
    counts = torch.zeros(8, 8)
    counts.index_put_((x, torch.randint(8, (8000,), generator=generator)), torch.ones(8000), accumulate=True)
    log_p = (counts / counts.sum(1, keepdim=True)).log()
    wrong = -float(log_p[torch.arange(8), (torch.arange(8) + 1) % 8].mean())
    texts = [(letters * 9)[i % 8 : i % 8 + 64] for i in range(60)]
    run = pangen.fit("ngram", texts, device="cpu")
    right = -float(run.log_prob(tuple(texts[:8])).nats.mean()) / 64
    return [
        Damage(
            "nats a letter, of eight that take turns",
            wrong,
            right,
            near(wrong, math.log(8), 0.1) and right < 0.15,
        )
    ]
