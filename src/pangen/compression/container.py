"""The file: a magic number, a header in JSON, what the coder wrote, what no model knows, and a checksum of all that.

    magic 8 | sizes of the three parts, 3 x u64 | header, deflated | payload, u32 words | aside, lzma | blake2b 16

Little-endian. The checksum is looked at before anything else is; what the header claims is checked before it is
believed, as whoever made the file can have made its checksum too.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import re
import shutil
import struct
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pangen.errors import PangenError
from pangen.limits import FACTS
from pangen.memory import free_memory

MAGIC = b"\x89PGN\r\n\x03\n"
"""A first byte that is no text, line ends that a transfer as text would change, and the version."""
SIZES = struct.Struct("<3Q")
CHECK = 16
USUAL = (
    b'.wav","size":,"form":{"head":"UklGRgAAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0Y","samples":,"tail":"'
    b'.txt","size":,"form":{"tokens":,"lines":,"long":[[,"strange":".png","size":,"form":{"png":[6,0]}},{"name":"'
    b'"coder":"bits back over 50 steps","initial":,"groups":[1,64,64,64],"fine":[1,2,3,4]'
    b'"shape":[1,28,28],"npy":"k05VTVBZAQB2AHsnZGVzY3InOiAnfHUxJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogK'
    b'DEwMDAwLCAyOCwgMjgpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAo=","type":"|u1","n":10000}}]}'
    b'{"pangen":"0.1.0","run":"runs/","weights":"0123456789abcdef","coder":"next token","threads":1,"probe":"","check":"",'
    b'"members":[{"name":".npy","size":,"form":{"npy":"k05VTVBZAQB2AHsnZGVzY3InOiAn'
)
"""What headers are made of, which the deflated ones leave out: most of a short text's file would be that."""


@dataclass
class Container:
    """The three parts of a file."""

    header: dict[str, Any]
    payload: np.ndarray
    """uint32."""
    aside: bytes

    def parts(self) -> list[bytes]:
        header = json.dumps(self.header, ensure_ascii=True, separators=(",", ":")).encode()
        aside = packed(self.aside)
        return [deflated(header), self.payload.astype("<u4").tobytes(), aside]

    def to_bytes(self) -> bytes:
        parts = self.parts()
        content = MAGIC + SIZES.pack(*map(len, parts)) + b"".join(parts)
        return content + digest(content)


def deflated(header: bytes) -> bytes:
    """Without a checksum, as the file has one."""
    stream = zlib.compressobj(9, wbits=-zlib.MAX_WBITS, zdict=USUAL)
    return stream.compress(header) + stream.flush()


def inflated(content: bytes, most: int) -> bytes:
    """The inverse of `deflated`, up to so many bytes."""
    return zlib.decompressobj(wbits=-zlib.MAX_WBITS, zdict=USUAL).decompress(content, most)


def packed(aside: bytes) -> bytes:
    """By lzma, or as it is where that is shorter; the first byte says which."""
    if not aside:
        return b""
    found = lzma.compress(aside, preset=9 | lzma.PRESET_EXTREME)
    return b"\1" + found if len(found) < len(aside) else b"\0" + aside


def unpacked(content: bytes, size: int) -> bytes:
    """`size` bytes."""
    if not content:
        return b""
    if content[0] == 0:
        return content[1:]
    return lzma.LZMADecompressor(memlimit=2**30).decompress(content[1:], max_length=size + 1)


def digest(*parts: bytes) -> bytes:
    found = hashlib.blake2b(digest_size=CHECK)
    for part in parts:
        found.update(part)
    return found.digest()


def read_container(path: Path) -> tuple[dict[str, Any], np.ndarray, bytes]:
    """Header, payload, and the aside as it is packed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PangenError(f"{path} cannot be read: {error.strerror}.") from None
    if content[: len(MAGIC)] != MAGIC:
        other = content[1:4] == MAGIC[1:4]
        why = (
            "was written by another version, or was changed on its way"
            if other
            else "is none that Pangen compressed"
        )
        raise PangenError(f"{path} {why}; `pangen compress RUN INPUT -o {path.stem}.pgn` makes one.")
    start = len(MAGIC) + SIZES.size
    sizes = SIZES.unpack(content[len(MAGIC) : start].ljust(SIZES.size, b"\0"))
    if start + sum(sizes) + CHECK != len(content):
        raise PangenError(f"{path} is cut short or longer than it says: get it again.")
    if digest(content[:-CHECK]) != content[-CHECK:]:
        raise PangenError(f"{path} is damaged: its checksum does not fit; get it again.")
    ends = np.cumsum([start, *sizes]).tolist()
    head, payload, aside = (content[a:b] for a, b in pairwise(ends))
    try:
        facts = inflated(head, FACTS.value + 1)
        FACTS.check(len(facts), path)
        header = json.loads(facts)
        words = np.frombuffer(payload, "<u4").astype(np.uint32)
    except (ValueError, zlib.error, RecursionError):
        raise misleading(path, "its header cannot be read") from None
    if not isinstance(header, dict):
        raise misleading(path, "its header is none")
    return header, words, aside


def misleading(path: Path, why: str) -> PangenError:
    """For a file whose checksum fits and whose content does not."""
    return PangenError(
        f"{path} was not made by `pangen compress`, whatever it says: {why}; nothing was written."
    )


def check_names(path: Path, names: Sequence[str]) -> None:
    """Raise for names that would lead out of the folder, or into one another."""
    seen: set[str] = set()
    for name in names:
        parts = PurePosixPath(name).parts if isinstance(name, str) else ()
        bad = not parts or name.startswith("/") or name != "/".join(parts) or {".", ".."} & set(parts)
        if bad or re.search(r"[\0-\x1f\\:]", name):
            raise misleading(path, f"the name {str(name)[:60]!r} leaves its folder")
        if name in seen:
            raise misleading(path, f"the name {name[:60]!r} is there twice")
        seen.add(name)
    for name in names:
        inside = next((str(p) for p in PurePosixPath(name).parents if str(p) in seen), None)
        if inside:
            raise misleading(path, f"{inside[:60]!r} is a file and a folder")


def check_size(path: Path, size: int, out: Path) -> None:
    """Raise where what comes out has no room."""
    place = next(p for p in (out, *out.resolve().parents) if p.exists())
    disk, memory = shutil.disk_usage(place).free, free_memory()
    free = disk if memory is None else min(disk, memory)
    if size > free // 2:
        raise PangenError(
            f"{path} claims to hold {size / 2**30:.1f} GiB, and there is room for {free / 2**31:.1f}; nothing was written."
        )


def check_folder(out: Path) -> None:
    """Raise where the files that come out could meet others."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "is a folder that holds something" if out.is_dir() else "is a file"
        raise PangenError(f"{out} {what}; name a new folder with -o.")


def write_files(out: Path, files: Mapping[str, bytes]) -> None:
    """All of them or none: into a folder beside, which is then renamed."""
    scratch = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        scratch.chmod(0o755)
        for name, content in files.items():
            target = scratch / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        os.replace(scratch, out)
    except OSError as error:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        raise PangenError(f"cannot write {out}: {error.strerror}; choose another place with -o.") from None
