"""How each kind of model codes the units of files: a conditional after another, or by bits-back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from pangen.capabilities import HasDenoiser, HasMasked, HasNextToken, HasPosterior
from pangen.codecs import LearnedCodec, MuLaw, Text
from pangen.compression import bits_back, tokens
from pangen.compression.bits_back import BitsBack, Ladder, OneGroup
from pangen.compression.chain import Chain, Scheme
from pangen.compression.coder import Coder, Discrete, Reader, Writer, code_levels, table
from pangen.compression.diffusion import STEPS, HasChain, StepsBack
from pangen.compression.flows import LocalBitsBack
from pangen.compression.kinds import Form, Images, Kind, Sounds, Texts, cells, kind_of
from pangen.compression.tokens import Rows, code_rows
from pangen.compression.walk import walkable
from pangen.errors import PangenError
from pangen.families.flow.flow import FlowModel
from pangen.likelihoods import Normal
from pangen.run import Run


@dataclass
class Facts:
    """What is known when all is written."""

    nats: float
    """By the model's own floating-point numbers."""
    initial: int = 0
    """Bytes of arbitrary bits at the bottom of a stack."""
    header: dict[str, Any] = field(default_factory=dict)


class FileCoder(Protocol):
    """Units of files to words and back."""

    @property
    def name(self) -> str: ...

    @property
    def run(self) -> Run: ...

    @property
    def kind(self) -> Kind: ...

    @property
    def threads(self) -> int:
        """Of the coder, whatever its user has: another number may change the last digits of a probability."""
        ...

    def write(self, forms: Sequence[Form], units: Sequence[Any]) -> tuple[np.ndarray, Facts]: ...

    def read(self, forms: Sequence[Form], words: np.ndarray, header: Mapping[str, Any]) -> list[Any]: ...

    def probe(self) -> bytes: ...


@dataclass
class QueueCoder(ABC):
    """A queue is written and read by one pass, which codes what is known and finds what is not."""

    run: Run
    kind: Kind
    threads: int = 1

    def write(self, forms: Sequence[Form], units: Sequence[Any]) -> tuple[np.ndarray, Facts]:
        writer = Writer()
        facts = Facts(0.0)
        self._code(writer, forms, units, facts)
        return writer.words(), facts

    def read(self, forms: Sequence[Form], words: np.ndarray, header: Mapping[str, Any]) -> list[Any]:
        return self._code(Reader(words), forms, None, Facts(0.0))

    @abstractmethod
    def _code(
        self, coder: Coder, forms: Sequence[Form], units: Sequence[Any] | None, facts: Facts
    ) -> list[Any]:
        """The units of each form."""


@dataclass
class TokenCoder(QueueCoder):
    """Of a model that predicts the next token."""

    name: ClassVar[str] = "next token"
    kind: Images | Texts | Sounds

    def _code(
        self, coder: Coder, forms: Sequence[Form], units: Sequence[Any] | None, facts: Facts
    ) -> list[Any]:
        """All rows of tokens, and before and after them what these leave open."""
        match self.kind:
            case Images() as images:
                return self._images(images, coder, forms, units, facts)
            case Texts() as texts:
                return self._texts(texts, coder, forms, units, facts)
            case Sounds() as sounds:
                return self._sounds(sounds, coder, forms, units, facts)

    def _images(
        self, kind: Images, coder: Coder, forms: Sequence[Form], units: Any, facts: Facts
    ) -> list[np.ndarray]:
        run, shape, model = self.run, kind.shape, cast("HasNextToken", self.run.model)
        counts = [kind.count(form) for form in forms]
        raw = None if units is None else joined(kind, units)
        labels = code_labels(run, coder, sum(counts), raw, facts)
        known: list[np.ndarray] = []
        if raw is not None and len(raw):
            known = list(model.tokens(run.codec.encode(raw).x).long().numpy())
        dims = int(np.prod(shape))
        rows = Rows(sum(counts), dims, dims, [dims] * sum(counts), labels=labels, known=known)
        found = code_rows(run, rows, coder, facts)
        if not found:
            return [np.empty((0, *shape), np.uint8) for _ in forms]
        x = model.examples(torch.from_numpy(np.stack(found)))
        levels = run.codec.decode(x).numpy()
        return np.split(levels, np.cumsum(counts)[:-1])

    def _texts(
        self, kind: Texts, coder: Coder, forms: Sequence[Form], units: Any, facts: Facts
    ) -> list[list[np.ndarray]]:
        codec, counts = kind.codec, [kind.count(form) for form in forms]
        lengths = None
        if not codec.lines:
            lengths = [n for form in forms for n in kind.lengths(form)]
        known = () if units is None else [row for rows in units for row in rows]
        rows = Rows(sum(counts), codec.context, codec.length, lengths, codec.data_space.end, known=known)
        found = code_rows(self.run, rows, coder, facts)
        ends = np.cumsum([0, *counts]).tolist()
        return [found[a:b] for a, b in pairwise(ends)]

    def _sounds(
        self, kind: Sounds, coder: Coder, forms: Sequence[Form], units: Any, facts: Facts
    ) -> list[np.ndarray]:
        """Levels by the model; which sample of those that a level stands for, each as likely."""
        level, start, count = cells()
        samples = None if units is None else torch.from_numpy(np.concatenate([np.empty(0, np.int64), *units]))
        known = None if samples is None else level[samples + 2**15]
        lengths = [n for form in forms for n in kind.lengths(form)]
        longest = cast("MuLaw", self.run.codec).length
        rows = Rows(
            len(lengths), longest, longest, lengths,
            known=() if known is None else [row.numpy() for row in known.split(lengths)],
        )  # fmt: skip
        found = code_rows(self.run, rows, coder, facts)
        levels = torch.from_numpy(np.concatenate([np.empty(0, np.int64), *found]))
        size = int(count.max())
        # a level without a sample occurs in damaged files alone
        each = count[levels].clamp(min=1).double()
        rest = None if samples is None else samples + 2**15 - start[levels]
        rest = code_levels(coder, lambda k: (k / each).clamp(max=1), size, tuple(levels.shape), rest)
        facts.nats += float(each.log().sum())
        whole = (start[levels] + rest - 2**15).numpy()
        return np.split(whole, np.cumsum([form["samples"] for form in forms])[:-1])

    def probe(self) -> bytes:
        codec = self.run.codec
        context = codec.context if isinstance(codec, Text) else self.run.model.space.dims
        return tokens.probe(self.run, context)


@runtime_checkable
class HasFactors(Protocol):
    """Dimensions are independent given the label."""

    def factors(self, n: int, y: Tensor | None = None) -> Discrete:
        """p(x given y) of discrete x, `n` rows of it."""
        ...


@dataclass
class FactorCoder(QueueCoder):
    """Of a model of independent dimensions: all of an example at once."""

    name: ClassVar[str] = "factors"
    kind: Images

    def _code(
        self, coder: Coder, forms: Sequence[Form], units: Sequence[Any] | None, facts: Facts
    ) -> list[np.ndarray]:
        raw = None if units is None else joined(self.kind, units)
        counts = [self.kind.count(form) for form in forms]
        n, parts = sum(counts), [torch.empty(0, *self.kind.shape, dtype=torch.int64)]
        labels = code_labels(self.run, coder, n, raw, facts)
        for start in range(0, n, tokens.ROWS):
            now = slice(start, min(start + tokens.ROWS, n))
            px = self._model.factors(now.stop - start, None if labels is None else labels[now])
            known = None if raw is None else raw[now].long()
            shape = (now.stop - start, *self.kind.shape)
            parts.append(code_levels(coder, px.below, self.kind.levels, shape, known))
            facts.nats -= float(px.log_prob(parts[-1]).double().sum())
        return np.split(torch.cat(parts).numpy().astype(np.uint8), np.cumsum(counts)[:-1])

    def probe(self) -> bytes:
        return self._model.factors(1).below(torch.ones(1, *self.kind.shape).long()).numpy().tobytes()

    @property
    def _model(self) -> HasFactors:
        return cast("HasFactors", self.run.model)


@dataclass
class LatentCoder:
    """Of a model with normal codes and a bound."""

    name: ClassVar[str] = "bits back"
    run: Run
    kind: Images
    threads: int

    def _stack(self) -> BitsBack:
        codec = self.run.codec
        prior = codec.label_log_prior if codec.labels else None
        return BitsBack(self.run, self.kind.levels, self._to_x, prior)

    def _to_x(self, levels: Tensor) -> Tensor:
        return self.run.codec.encode(levels).x

    def write(self, forms: Sequence[Form], units: Sequence[Any]) -> tuple[np.ndarray, Facts]:
        raw = joined(self.kind, units).long()
        labels = likeliest(self.run, raw) if self.run.codec.labels and len(raw) else None
        stack = self._stack()
        words = stack.write(raw, labels)
        return words, Facts(
            stack.nats, stack.initial, {"initial": stack.initial, "groups": stack.groups, "fine": stack.fine}
        )

    def read(self, forms: Sequence[Form], words: np.ndarray, header: Mapping[str, Any]) -> list[Any]:
        counts, stack = [self.kind.count(form) for form in forms], self._stack()
        stack.initial, stack.groups = int(header["initial"]), [int(n) for n in header["groups"]]
        stack.fine = [int(n) for n in header["fine"]]
        check_stack(stack.groups, counts, stack.initial, words)
        if not all(0 <= fine <= bits_back.FINEST for fine in stack.fine):
            raise ValueError("cells of no width")
        levels = stack.read(words).numpy().astype(np.uint8)
        return np.split(levels, np.cumsum(counts)[:-1])

    def probe(self) -> bytes:
        return bits_back.probe(self.run, self._to_x, self.kind.levels)


@dataclass
class ChainCoder:
    """Of a model whose codes are as many numbers as its data, once or at each of many steps."""

    run: Run
    kind: Images
    scheme: Scheme
    threads: int

    @property
    def name(self) -> str:
        return self.scheme.name

    def _chain(self) -> Chain:
        codec = self.run.codec
        return Chain(self.run, self.scheme, codec.label_log_prior if codec.labels else None)

    def write(self, forms: Sequence[Form], units: Sequence[Any]) -> tuple[np.ndarray, Facts]:
        raw = joined(self.kind, units).long()
        labels = likeliest(self.run, raw) if self.run.codec.labels and len(raw) else None
        chain = self._chain()
        words = chain.write(raw, labels)
        return words, Facts(chain.nats, chain.initial, {"initial": chain.initial, "groups": chain.groups})

    def read(self, forms: Sequence[Form], words: np.ndarray, header: Mapping[str, Any]) -> list[Any]:
        counts, chain = [self.kind.count(form) for form in forms], self._chain()
        chain.initial, chain.groups = int(header["initial"]), [int(n) for n in header["groups"]]
        check_stack(chain.groups, counts, chain.initial, words)
        return np.split(chain.read(words).numpy().astype(np.uint8), np.cumsum(counts)[:-1])

    def probe(self) -> bytes:
        return self.scheme.probe().contiguous().numpy().tobytes()


def check_stack(groups: Sequence[int], counts: Sequence[int], initial: int, words: np.ndarray) -> None:
    """Raise where a stack cannot hold so many examples."""
    if sum(groups) != sum(counts) or not all(0 < n <= bits_back.ROWS for n in groups):
        raise ValueError("groups of other examples")
    if not 0 <= initial <= 4 * len(words):
        raise ValueError("a stack that begins with more than it has")


def joined(kind: Images, units: Sequence[np.ndarray]) -> Tensor:
    """The images of all files."""
    return torch.from_numpy(np.concatenate([np.empty((0, *kind.shape), np.uint8), *units]))


def code_labels(run: Run, coder: Coder, n: int, raw: Tensor | None, facts: Facts) -> Tensor | None:
    """The likeliest label of each of n examples; None for a run without."""
    if not (run.codec.labels and n):
        return None
    prior = run.codec.label_log_prior
    known = None if raw is None else likeliest(run, raw).numpy().astype(np.int32)
    labels = torch.from_numpy(coder.code(table(prior.expand(n, -1)), known).astype(np.int64))
    facts.nats -= float(prior[labels].sum())
    return labels


def likeliest(run: Run, raw: Tensor) -> Tensor:
    """The label of each example that is cheapest to tell with it."""
    return run.joint_log_prob(raw.to(torch.uint8)).nats.argmax(1)


def coder_of(run: Run, *, pixels: bool = False) -> FileCoder:
    """What codes by this run's probabilities, or the sentence that says what is missing."""
    name, codec, model = run.entry.name, run.codec, run.model
    if model.device.type != "cpu":
        raise PangenError("files are coded on the processor: load the run with device='cpu'.")
    if isinstance(codec, LearnedCodec):
        raise PangenError(
            f"this {name} is a model of another run's codes, which are no files; compress with {codec.run}, or "
            "with a model of the data itself."
        )
    if run.answers:
        raise PangenError(f"this {name} knows texts given others alone: {INSTEAD}.")
    if run.no_likelihood:
        raise PangenError(f"{name} cannot compress, as it has no likelihood: {run.no_likelihood}; {INSTEAD}.")
    kind = kind_of(codec, pixels=pixels)
    if kind is None:
        raise PangenError(
            f"{name} cannot compress behind the codec {codec.name}: its values are real numbers, which have a density "
            f"and no probability; {INSTEAD}."
        )
    if isinstance(model, HasNextToken):
        return TokenCoder(run, kind)
    if isinstance(model, HasFactors) and isinstance(kind, Images):
        return FactorCoder(run, kind)
    if isinstance(kind, Images) and (scheme := scheme_of(run, kind.levels)):
        return ChainCoder(run, kind, scheme, run.card.get("threads") or 1)
    if isinstance(model, HasPosterior) and isinstance(kind, Images):
        ladder = isinstance(model, Ladder)
        if ladder or (isinstance(model, OneGroup) and isinstance(model.prior(1), Normal)):
            return LatentCoder(run, kind, run.card.get("threads") or 1)
        raise PangenError(
            f"{name} cannot compress: the numbers of its codes are not independent under its prior; take vae."
        )
    raise PangenError(f"{name} cannot compress: it has {missing(run)}; {INSTEAD}.")


def scheme_of(run: Run, levels: int) -> Scheme | None:
    """Of a flow, or of a chain of noise levels; None of other models."""
    if isinstance(run.model, FlowModel) and walkable(run.model.flow.transform):
        return LocalBitsBack(run, levels)
    return StepsBack(run, levels, run.model.chain or STEPS) if isinstance(run.model, HasChain) else None


def missing(run: Run) -> str:
    """What a model lacks, that has a likelihood of data that files are of."""
    if isinstance(run.model, HasDenoiser):
        return "a likelihood along a path that a solver finds, and no bound over steps to take bits back from"
    if isinstance(run.model, HasMasked):
        return "a bound over random orders of the tokens, which would be read one at a time in one of them"
    if run.codec.name == "dequantise":
        return (
            "a density, and no bijection made of maps of single numbers that local bits-back could go through"
        )
    return "neither conditionals of one value after another nor codes to take bits back from"


INSTEAD = "take gpt, rnn or ngram for text, made, pixelcnn or vae for images, wavenet for sound"
