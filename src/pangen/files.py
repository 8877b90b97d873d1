"""Writing files so that a reader sees the old one or the new one, never a half."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pangen.errors import PangenError

if TYPE_CHECKING:
    from torch import Tensor


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
        scratch.unlink(missing_ok=True)
        raise PangenError(f"cannot write {path}: {error.strerror}; choose another place with -o.") from None


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """A JSON file, or an error that names it."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise PangenError(
            f"{path} is missing: the folder is no complete run; train it again or resume it."
        ) from None
    except (OSError, ValueError) as error:
        raise PangenError(f"{path} cannot be read ({error}): the run is damaged.") from None


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None
) -> None:
    """A safetensors file; tied tensors are stored once for each of their names."""
    from safetensors.torch import save

    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    write_bytes(path, save(plain, {"json": json.dumps(metadata or {})}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file that `write_tensors` wrote."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise PangenError(f"{path} is missing: the folder is no complete run; train it again or resume it.")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("json", "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise PangenError(f"{path} cannot be read ({error}): the run is damaged.") from None


def make_folder(path: Path) -> Path:
    """Create a folder, or say in one sentence why that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PangenError(
            f"cannot create the folder {path}: {error.strerror}; choose another place with -o."
        ) from None
    if not os.access(path, os.W_OK):
        raise PangenError(f"the folder {path} is not writable; choose another place with -o.")
    return path
