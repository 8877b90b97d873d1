"""Text as bytes, and as subwords made of them: any text has tokens, and comes back from them unchanged."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from annotated_types import Ge

from pangen.codecs.text import Text
from pangen.errors import PangenError
from pangen.space import Trust

if TYPE_CHECKING:
    from pangen.data.dataset import Data

BYTES = 256
OFTEN = 2
"""Times that a pair of tokens must occur to become one."""


def utf8(text: str) -> bytes:
    """Its bytes; half a surrogate pair, which Python's strings can hold, has none."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PangenError(
            f"the character {text[error.start]!r} is half a surrogate pair and no text; leave it out."
        ) from None


@dataclass(frozen=True, kw_only=True)
class _Bytes(Text):
    """Tokens that stand for bytes; bytes that are no UTF-8 decode to U+FFFD."""

    typical: int = 0
    """Tokens of a window, in the median."""

    @property
    def context(self) -> int:
        return self.length if self.lines else self.typical

    def measured(self, data: Data) -> Self:
        """With the lengths in tokens that the data has."""
        parts = self.counted(data)
        longest = max(max(part) for part in parts) + self.lines
        return replace(self, length=longest, typical=max(int(statistics.median(parts[0])), 1))


@dataclass(frozen=True, kw_only=True)
class Bytes(_Bytes):
    """Each byte of UTF-8 a token. No character's bytes begin another's: the probability of a text is exact."""

    name: ClassVar[str] = "bytes"

    @classmethod
    def fit(cls, data: Data, **settings: Any) -> Self:
        return cls(window=data.window, length=1, **settings).measured(data)

    @property
    def symbols(self) -> int:
        return BYTES

    def tokens(self, text: str) -> list[int]:
        return list(utf8(text))

    def text(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode("utf-8", errors="replace")


@dataclass(frozen=True, kw_only=True)
class Subwords(_Bytes):
    """Byte-pair encoding (Sennrich et al. 2016) of bytes (Radford et al. 2019), learnt from the training split.

    A text is written in its canonical tokens; others spell it too, so that log p of these is a
    lower bound on that of the text. Tokens are learnt and found by the `tokenizers` package.
    """

    name: ClassVar[str] = "bpe"
    kind: ClassVar[Trust] = "lower bound"
    vocabulary: Annotated[int, Ge(BYTES)]
    """Tokens at most: the bytes, and pairs of tokens as long as one occurs twice."""
    merges: tuple[str, ...]
    """Pairs that become one token, in this order; a byte is written as `letters` has it."""

    def __post_init__(self) -> None:
        known = set(letters())
        for pair in self.merges:
            a, _, b = pair.partition(" ")
            if not {a, b} <= known:
                raise ValueError(f"'{pair}' is no pair of tokens")
            known.add(a + b)

    @classmethod
    def fit(cls, data: Data, *, vocabulary: int = 1024, **settings: Any) -> Self:
        merges = learnt(data.train.x, vocabulary)
        codec = cls(vocabulary=vocabulary, merges=merges, window=data.window, length=1, **settings)
        return codec.measured(data)

    @property
    def symbols(self) -> int:
        return len(self._index)

    @cached_property
    def _index(self) -> dict[str, int]:
        index = {letter: byte for byte, letter in enumerate(letters())}
        for pair in self.merges:
            index.setdefault(pair.replace(" ", ""), len(index))
        return index

    @cached_property
    def _spelled(self) -> list[bytes]:
        byte = {letter: byte for byte, letter in enumerate(letters())}
        return [bytes(byte[letter] for letter in token) for token in self._index]

    @cached_property
    def _tokenizer(self) -> Any:
        merges = [(a, b) for a, _, b in (pair.partition(" ") for pair in self.merges)]
        return tokenizer(vocab=self._index, merges=merges)

    def tokens(self, text: str) -> list[int]:
        utf8(text)
        return self._tokenizer.encode(text).ids

    def text(self, tokens: Sequence[int]) -> str:
        return b"".join(self._spelled[token] for token in tokens).decode("utf-8", errors="replace")


def letters() -> list[str]:
    """The character each byte is written as: its own where that can be seen, else one from U+0100 on."""
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = count(0x100)
    return [chr(byte if byte in seen else next(others)) for byte in range(BYTES)]


def learnt(texts: Sequence[str], vocabulary: int) -> tuple[str, ...]:
    """The merges of a vocabulary of this size."""
    learner = tokenizer()
    from tokenizers.trainers import BpeTrainer

    trainer = BpeTrainer(
        vocab_size=vocabulary, min_frequency=OFTEN, initial_alphabet=letters(), show_progress=False
    )
    for text in texts:
        utf8(text)
    learner.train_from_iterator(texts, trainer)
    return tuple(" ".join(pair) for pair in json.loads(learner.to_str())["model"]["merges"])


def tokenizer(**model: Any) -> Any:
    """Of the `tokenizers` package: cuts a text into words, and words, as bytes, into tokens."""
    try:
        from tokenizers import Tokenizer
        from tokenizers.models import BPE
        from tokenizers.pre_tokenizers import ByteLevel
    except ImportError:
        raise PangenError(
            "the codec 'bpe' needs the package tokenizers: pip install 'pangen[text]'; or take bytes or characters."
        ) from None
    found = Tokenizer(BPE(**model))
    found.pre_tokenizer = ByteLevel(add_prefix_space=False)
    return found
