"""Writing files so that a reader sees the old one or the new one, never a half."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pangen.errors import PangenError, StorageError
from pangen.limits import FACTS

if TYPE_CHECKING:
    from torch import Tensor


_CHECKSUM = re.compile(rb'"json":"([0-9a-f]{8}) ')
"""It stands before the facts, under one name: safetensors writes several names in any order."""
_NONE = "0" * 8


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside the target, flush to disk, then rename over it."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(scratch, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except OSError as error:
        with suppress(OSError):
            scratch.unlink()
        raise StorageError(path, error) from None


def append_line(path: Path, line: str) -> None:
    """Add a line to a file; of one for which there is no room a part without an end may be left."""
    try:
        with open(path, "a") as file:
            file.write(line + "\n")
    except OSError as error:
        raise StorageError(path, error) from None


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """A JSON file, or an error that names it."""
    try:
        FACTS.check(path.stat().st_size, path)
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise PangenError(
            f"{path} is missing: the folder is no complete run; train it again or resume it."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise PangenError(f"{path} cannot be read ({error}): the run is damaged.") from None


def read_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file of a run holds."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise PangenError(f"{path} holds no JSON object: the run is damaged.")
    return found


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None
) -> None:
    """A safetensors file with a checksum of all its bytes; tied tensors are stored once for each of their names."""
    from safetensors.torch import save

    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    content = save(plain, {"json": f"{_NONE} {json.dumps(metadata or {})}"})
    checksum = f"{zlib.crc32(content):08x}".encode()
    if (place := _CHECKSUM.search(content)) is not None:
        content = b"".join((content[: place.start(1)], checksum, content[place.end(1) :]))
    write_bytes(path, content)


def _check(path: Path) -> None:
    """Raise ValueError where the bytes of a file are not those of its checksum; older files have none."""
    with open(path, "rb") as file:
        size = file.read(8)
        length = min(int.from_bytes(size, "little"), path.stat().st_size)
        FACTS.check(length, path)
        header = file.read(length)
        place = _CHECKSUM.search(header)
        if place is None:
            return
        found = zlib.crc32(size + header[: place.start(1)] + _NONE.encode() + header[place.end(1) :])
        while block := file.read(1 << 20):
            found = zlib.crc32(block, found)
    if f"{found:08x}".encode() != place[1]:
        raise ValueError("its bytes are not those of its checksum")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file that `write_tensors` wrote."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise PangenError(f"{path} is missing: the folder is no complete run; train it again or resume it.")
    try:
        _check(path)
        with safe_open(str(path), framework="pt") as file:
            told = (file.metadata() or {}).get("json", "{}")
            metadata = json.loads(told[told.find("{") :])
            if not isinstance(metadata, dict):
                raise ValueError("its metadata is no JSON object")
            return {key: file.get_tensor(key) for key in file.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise PangenError(f"{path} cannot be read ({error}): the run is damaged.") from None


def make_folder(path: Path) -> Path:
    """Create a folder, or say in one sentence why that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(path, error, "create the folder") from None
    if not os.access(path, os.W_OK):
        raise PangenError(f"the folder {path} is not writable; choose another place with -o.")
    return path


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else trains in this folder meanwhile; what a killed one left half-written is removed.

    The lock is the operating system's, which frees it however its owner ends. Systems without such locks go without.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise StorageError(folder, error, "train in") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PangenError(
                f"another training is at work in {folder}; wait for its end, or choose another -o."
            ) from None
        except OSError:
            pass
        for scratch in folder.glob(".*.*.[0-9]*"):
            with suppress(OSError):
                scratch.unlink()
        yield
    finally:
        os.close(handle)


def is_busy(folder: Path) -> bool:
    """Whether somebody trains in a folder now, as far as the system can tell."""
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False
