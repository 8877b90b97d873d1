"""A checkpoint to which each process writes its part: a folder, by `torch.distributed.checkpoint`, of safetensors files.

It may be read by any number of processes. Nothing of it is a pickle, and every file has its checksum.
"""

from __future__ import annotations

import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pangen import parallel
from pangen.errors import LostError, PangenError, StorageError
from pangen.files import read_object, write_json

FACTS, FILES = "facts.json", "*.safetensors"


def write_parts(path: Path, before: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """All processes together write a folder beside its place, then rename it; what was there becomes `before`."""
    import torch.distributed.checkpoint as dcp

    scratch = path.with_name(f".{path.name}.new")
    if parallel.is_first():
        shutil.rmtree(scratch, ignore_errors=True)
    parallel.wait()
    with _failing(partial(_unwritten, path)):
        writer = dcp.HuggingFaceStorageWriter(str(scratch), save_distributed=True)
        dcp.save(dict(tensors), storage_writer=writer, no_dist=not parallel.together())
    sums = _checksums(scratch)
    if parallel.is_first():
        write_json(scratch / FACTS, {"facts": facts, "files": sums})
        try:
            if path.exists():
                shutil.rmtree(before, ignore_errors=True)
                os.replace(path, before)
            os.replace(scratch, path)
        except OSError as error:
            raise StorageError(path, error) from None
    parallel.wait()


def read_parts(
    path: Path, place: Callable[[str, torch.Size], Tensor]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All processes together read tensors and facts; of each tensor what its `place`, by name and shape, has of it."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    told = read_object(path / FACTS)
    if _checksums(path) != told.get("files"):
        raise PangenError(
            f"{path} cannot be read (its files are not those of its checksums): the run is damaged."
        )
    with _failing(partial(_unfit, path)):
        reader = dcp.HuggingFaceStorageReader(str(path))
        names = reader.read_metadata().state_dict_metadata
        sizes = {
            name: found.size for name, found in names.items() if isinstance(found, TensorStorageMetadata)
        }
        tensors = {name: place(name, size) for name, size in sizes.items()}
        dcp.load(tensors, storage_reader=reader, no_dist=not parallel.together())
    return tensors, told.get("facts", {})


def _unwritten(path: Path, cause: BaseException) -> PangenError:
    if isinstance(cause, OSError):
        return StorageError(path, cause)
    return PangenError(f"cannot write {path} ({cause}); choose another place with -o.")


def _unfit(path: Path, cause: BaseException) -> PangenError:
    return PangenError(f"{path} does not fit its recipe ({cause}): the run is damaged.")


def _checksums(folder: Path) -> dict[str, str]:
    """Of each file of a folder; each process reads some of them."""
    parallel.wait()  # until all are there
    files = sorted(folder.glob(FILES))
    with parallel.sharing():
        return dict(zip((file.name for file in files), parallel.spread(files, _checksum), strict=True))


def _checksum(file: Path) -> str:
    found = 0
    with open(file, "rb") as content:
        while block := content.read(1 << 20):
            found = zlib.crc32(block, found)
    return f"{found:08x}"


@contextmanager
def _failing(told: Callable[[BaseException], PangenError]) -> Iterator[None]:
    """Where the engine fails in some process, say what of it in one sentence."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            yield
    except CheckpointException as error:
        cause = next(iter(error.failures.values()))[0]
        if parallel.is_cut(cause):
            raise LostError(f"{parallel.who()} lost another one") from None
        raise told(cause) from None
