"""Archives of examples, as WebDataset has them: .tar files whose members KEY.png, KEY.cls, KEY.txt belong together.

| member | is |
|---|---|
| KEY.png, .jpg, .jpeg or .webp | an image |
| KEY.npy | an image of whole numbers 0 to 255, or a vector |
| KEY.cls | its label |
| KEY.txt | its caption |

Headers are read once; members are read where they lie when they are asked for. Nothing is ever extracted.
"""

from __future__ import annotations

import io
import itertools
import math
import tarfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pangen.data.arrays import examples
from pangen.data.assemble import Examples
from pangen.data.decoded import Decoded
from pangen.data.folders import by_split, classes, files_of
from pangen.data.images import check_size, decode, planes, why
from pangen.data.stored import Stored, is_large
from pangen.errors import PangenError
from pangen.limits import FACTS, PIXELS

ENDING = ".tar"
EXAMPLES = ("png", "jpg", "jpeg", "webp", "npy")
LABEL, CAPTION = "cls", "txt"
NUMPY = b"\x93NUMPY"
BLOCK = 512
"""Bytes of a header, which stands before its member."""
WIDEST = 8
"""Bytes that an encoded value takes, at most: what is larger claims more pixels than it may."""


class _Member(NamedTuple):
    name: str
    start: int
    size: int

    @property
    def key(self) -> str:
        """Its folder and its name up to the first dot."""
        folder, _, name = self.name.rpartition("/")
        return f"{folder}/{name.partition('.')[0]}"

    @property
    def ending(self) -> str:
        return self.name.rpartition("/")[2].partition(".")[2].lower()


class _Headers(io.FileIO):
    """An archive of which no more is read at once than facts may take, whatever its headers claim."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            raise PangenError(f"{self.name} is damaged: a member claims a negative size; make it again.")
        FACTS.check(size, str(self.name))
        return super().read(size)


class Shards:
    """The examples of some archives: where each lies."""

    def __init__(self, name: str, paths: list[Path], scale: tuple[int, int] | None) -> None:
        self.name, self.paths, self.scale = name, paths, scale
        self.shard, self.start, self.size = array("l"), array("q"), array("q")
        self.labels: list[str] = []
        self.captions: list[str] = []
        self.others = 0
        """Members that are neither examples nor stand beside one."""
        for number, path in enumerate(paths):
            self._index(number, path)
        sizes = [(path.name, path.stat().st_size) for path in paths]
        self.facts = f"{sizes} {scale}"

    def __len__(self) -> int:
        return len(self.start)

    def called(self, row: int) -> str:
        with open(self._path(row), "rb") as file:
            file.seek(self.start[row] - BLOCK)
            name = file.read(100).split(b"\0")[0].decode("utf-8", "replace")
        return f"{self._path(row)}, member {name}"

    def decode(self, row: int) -> np.ndarray:
        content = self._content(row)
        try:
            if content.startswith(NUMPY):
                return _array(content, self.called(row))
            return planes(decode(io.BytesIO(content), self.called(row), self.scale))
        except PangenError:
            raise
        except Exception as error:  # a damaged file makes the decoder raise nearly anything
            raise PangenError(
                f"{self.called(row)} cannot be read ({why(error)}); mend or remove it, or leave out such images with "
                "--skip-bad."
            ) from None

    def keep(self, rows: list[int]) -> None:
        """Leave out all examples but these."""
        for name in ("shard", "start", "size"):
            whole = getattr(self, name)
            setattr(self, name, array(whole.typecode, (whole[row] for row in rows)))
        self.labels, self.captions = (
            [old[i] for i in rows] if old else [] for old in (self.labels, self.captions)
        )

    def _path(self, row: int) -> Path:
        return self.paths[self.shard[row]]

    def _content(self, row: int) -> bytes:
        with open(self._path(row), "rb") as file:
            file.seek(self.start[row])
            content = file.read(self.size[row])
        if len(content) < self.size[row]:
            raise PangenError(f"{self._path(row)} has become shorter since it was looked at; start anew.")
        return content

    def _index(self, number: int, path: Path) -> None:
        for _, group in itertools.groupby(_members(path), key=lambda member: member.key):
            members = list(group)
            beside = {member.ending: member for member in members}
            found = [member for member in members if member.ending in EXAMPLES]
            if not found:
                self.others += len(members)
                continue
            if len(found) > 1:
                raise PangenError(
                    f"{path}: {found[0].name} and {found[1].name} are two examples of one key; give each a name of its own."
                )
            example = found[0]
            PIXELS.check(example.size // WIDEST, f"{path}, member {example.name},")
            for ending, texts in ((LABEL, self.labels), (CAPTION, self.captions)):
                self._note(texts, beside.get(ending), path, example, ending)
            self.shard.append(number)
            self.start.append(example.start)
            self.size.append(example.size)
            self.others += len(members) - 1 - (LABEL in beside) - (CAPTION in beside)

    def _note(
        self, texts: list[str], member: _Member | None, path: Path, example: _Member, ending: str
    ) -> None:
        """The label or caption beside an example; all have one, or none."""
        if (member is None) != (not texts) and len(self):
            has = "has none, and others have one" if member is None else "has one, and others have none"
            raise PangenError(
                f"{path}, member {example.name}: it {has} of .{ending}; what belongs to an example stands next to it, as "
                "`tar --sort=name` puts it, and every example has the same."
            )
        if member is None:
            return
        FACTS.check(member.size, f"{path}, member {member.name},")
        with open(path, "rb") as file:
            file.seek(member.start)
            text = " ".join(file.read(member.size).decode("utf-8", "replace").split())
        if not text:
            raise PangenError(
                f"{path}, member {member.name} is empty; write something, or remove all of its kind."
            )
        texts.append(text)


def read_shards(
    path: Path, *, size: tuple[int, int] | None, skip_bad: bool, stored: bool
) -> tuple[dict[str, Examples], list[str]]:
    """The splits of an archive or a folder of them, in memory or stored; and what there is to note."""
    if path.is_dir():
        members = [file for file in files_of(path) if file.suffix.lower() == ENDING]
        groups = {
            k or "train": [path / file for file in files] for k, files in by_split(path, members).items()
        }
    else:
        groups = {"train": [path]}
    parts, notes, bad = {}, [], 0
    for split, paths in groups.items():
        shards = Shards(str(path), paths, size)
        if skip_bad:
            good = [row for row in range(len(shards)) if _is_good(shards, row)]
            bad += len(shards) - len(good)
            shards.keep(good)
        if not len(shards):
            raise PangenError(
                f"{path} holds no example for {split}; its archives are to hold members such as 000.png and 000.cls."
            )
        check_size(len(shards), size)
        source = Decoded(shards)
        rows = np.arange(len(shards))
        each = math.prod(source.example) * (1 if source.modality == "image" else 4)
        stay = stored or is_large(len(rows) * each)
        y = tuple(shards.captions) if shards.captions else classes(shards.labels) if shards.labels else None
        parts[split] = Examples(source.modality, Stored.of(source) if stay else source.read(rows), y)
        told = {
            f"{shards.others} members of {split} are neither examples nor stand beside one, and were left out.": shards.others,
            f"labels (.{LABEL}) of {split} are left out: captions (.{CAPTION}) stand beside the examples too.": shards.captions
            and shards.labels,
        }
        notes += [note for note, holds in told.items() if holds]
    return parts, notes + ([f"{bad} examples could not be read and were left out."] if bad else [])


def _is_good(shards: Shards, row: int) -> bool:
    try:
        shards.decode(row)
    except PangenError:
        return False
    return True


def _members(path: Path) -> Iterator[_Member]:
    """Regular files within an archive, by its headers; links, folders and devices are passed over."""
    try:
        with _Headers(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            end = path.stat().st_size
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep all; the stubs leave it out
                if member.size < 0 or member.offset_data + member.size > end:
                    raise _damaged(path, f"{member.name} claims {member.size} bytes")
                if member.isreg() and not member.issparse():
                    name = member.name.encode("utf-8", "replace").decode()
                    yield _Member(name, member.offset_data, member.size)
            file.seek(tar.offset)
            last = file.read(BLOCK)
            if len(last) < BLOCK or any(last):  # a header that cannot be read ends the reading, too
                raise _damaged(path, "it is cut off, or a header cannot be read")
    except (PangenError, OSError):
        raise
    except Exception as error:  # a damaged header makes the parser raise nearly anything
        raise _damaged(path, why(error)) from None


def _damaged(path: Path, reason: str) -> PangenError:
    return PangenError(f"{path} is damaged ({reason}); make this archive again.")


def _array(content: bytes, name: str) -> np.ndarray:
    """The example in an .npy file, of which no more is believed than there is."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, kind = read(file)
    if kind.hasobject or math.prod(shape) * kind.itemsize != len(content) - file.tell():
        raise PangenError(f"{name} is no array of {shape} numbers; save it again.")
    x = np.frombuffer(content, kind, offset=file.tell()).reshape(shape, order="F" if by_columns else "C")
    if x.ndim > 1 and x.dtype.kind == "f":
        raise PangenError(f"{name} is an image of type {kind}; save it as uint8, whole numbers 0 to 255.")
    return examples(x[None], None, name).x[0]
