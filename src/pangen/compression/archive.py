"""Files to one compressed file, and back: which coder a run has, what it writes, and how much that is."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pangen import __version__
from pangen.compression.coder import constriction
from pangen.compression.coders import FileCoder, coder_of
from pangen.compression.container import (
    Container,
    check_folder,
    check_names,
    check_size,
    digest,
    misleading,
    read_container,
    unpacked,
    write_files,
)
from pangen.compression.kinds import Form, Images, Kind, same
from pangen.compression.sizes import others
from pangen.errors import PangenError
from pangen.files import write_bytes
from pangen.precision import precision
from pangen.run import Run, load_run

MOST_THREADS = 4096
Paths = str | Path | Sequence[str | Path]


def compress(
    run: Run | str | Path,
    inputs: Paths,
    out: str | Path | None = None,
    *,
    pixels: bool = False,
    report: bool = False,
) -> dict[str, Any]:
    """Write files by a model's probabilities into one that `decompress` makes the same files of.

    Args:
        run: of a model with an exact likelihood of discrete data, or with a bound on it by normal codes, or
            its folder.
        inputs: files and folders. What the run's data could not be is kept as it is, as small as lzma makes it.
        out: the file to write; None: only the numbers.
        pixels: of PNG files keep the pixels, and not how they were packed.
        report: read what was written, and compare with other programs and formats.

    Returns:
        Bytes before and after, the model's own nats as bytes, bytes of the weights, seconds; `kept` names files that
        are kept as they are. A report adds the speed back and the bytes of `others`.

    Raises:
        PangenError: for a run without such a likelihood, or an input that cannot be read.
    """
    run = run if isinstance(run, Run) else load_run(run, device="cpu")
    constriction()
    started = time.perf_counter()
    coder = coder_of(run, pixels=pixels)
    contents = dict(read_inputs([inputs] if isinstance(inputs, str | Path) else inputs))
    found = {name: same(coder.kind, name, content, pixels=pixels) for name, content in contents.items()}
    forms = [pair[0] for pair in found.values() if pair]
    with fixed(run, coder.threads):
        payload, facts = coder.write(forms, [pair[1] for pair in found.values() if pair])
        probe = digest(coder.probe()).hex()
    kept = [name for name in contents if found[name] is None]
    restored = {name: coder.kind.write(*pair) if pair else contents[name] for name, pair in found.items()}
    members = [
        {"name": name, "size": len(restored[name]), **({"form": pair[0]} if pair else {})}
        for name, pair in found.items()
    ]
    header = {
        "pangen": __version__,
        "run": str(run.path or ""),
        "weights": hash_of(run),
        "coder": coder.name,
        "threads": coder.threads,
        "probe": probe,
        "check": digest(*restored.values()).hex(),
        "members": members,
        **facts.header,
    }
    made = Container(header, payload, b"".join(contents[name] for name in kept))
    content = made.to_bytes()
    if out is not None:
        write_bytes(Path(out), content)
    seconds = time.perf_counter() - started
    _, coded, aside = map(len, made.parts())
    size, whole = sum(map(len, contents.values())), len(content)
    weights = sum(tensor.nbytes for tensor in run.model.state_dict().values())
    ideal = facts.nats / (8 * math.log(2))
    return {
        "file": None if out is None else str(out),
        "files": len(contents),
        "kept": kept,
        "bytes": size,
        "compressed": whole,
        "header": whole - coded - aside,
        "payload": coded,
        "initial": facts.initial,
        "aside": aside,
        "model": ideal,
        "over_model": (coded - facts.initial) / ideal if ideal else None,
        "values": sum(coder.kind.size(form) for form in forms),
        "weights": weights,
        "with_weights": whole + weights,
        "seconds": seconds,
        "mb_per_second": size / 1e6 / seconds,
        **(
            {
                "mb_per_second_back": size / 1e6 / seconds_back(coder, forms, payload, header),
                "others": others(contents, coder.kind),
            }
            if report
            else {}
        ),
    }


def seconds_back(
    coder: FileCoder, forms: Sequence[Form], payload: np.ndarray, header: Mapping[str, Any]
) -> float:
    """How long it takes to read what was just written, with the probe that comes before."""
    started = time.perf_counter()
    with fixed(coder.run, coder.threads):
        coder.probe()
        units = coder.read(forms, payload, header)
    for form, unit in zip(forms, units, strict=True):
        coder.kind.write(form, unit)
    return time.perf_counter() - started


def decompress(path: str | Path, out: str | Path, *, run: Run | str | Path | None = None) -> dict[str, Any]:
    """Write the files that `compress` was given into a new folder.

    Args:
        path: what `compress` wrote.
        out: the folder, new or empty. When anything is wrong nothing is written.
        run: the run it was compressed with, or its folder; None: where that was.

    Raises:
        PangenError: for a file or a run that is not the right one, or a machine that computes otherwise.
    """
    path, out, started = Path(path), Path(out), time.perf_counter()
    constriction()
    header, payload, aside = read_container(path)
    check_folder(out)
    try:
        files = _read(path, out, header, payload, aside, run)
    except PangenError:
        raise
    except Exception as error:  # what was made to mislead makes any part raise nearly anything
        raise misleading(path, f"its parts do not fit together ({type(error).__name__})") from None
    write_files(out, files)
    size, seconds = sum(map(len, files.values())), time.perf_counter() - started
    return {
        "folder": str(out), "files": len(files), "bytes": size, "seconds": seconds,
        "mb_per_second": size / 1e6 / seconds,
    }  # fmt: skip


def _read(
    path: Path, out: Path, header: Mapping[str, Any], payload: np.ndarray, aside: bytes, given: Any
) -> dict[str, bytes]:
    members = header["members"]
    sizes = {member["name"]: member["size"] for member in members}
    check_names(path, [member["name"] for member in members])
    if not all(type(size) is int and size >= 0 for size in sizes.values()):
        raise misleading(path, "a file has no size")
    check_size(path, sum(sizes.values()), out)
    run = _run_of(path, header, given)
    coder = coder_of(run)
    if coder.name != header["coder"]:
        raise misleading(path, "its run has another coder")
    forms = [member["form"] for member in members if "form" in member]
    for member in members:
        if "form" in member:
            _check_form(path, coder.kind, member["form"], member["size"])
    if header["threads"] not in range(1, MOST_THREADS + 1):
        raise misleading(path, "it was written by no number of threads")
    with fixed(run, header["threads"]):
        if digest(coder.probe()).hex() != header["probe"]:
            raise PangenError(
                f"{path} was written where arithmetic differs from here, by another processor or build of torch "
                f"(Pangen {header['pangen']}): decompress it there; nothing was written."
            )
        units = iter(coder.read(forms, payload, header))
    rest, files = unpacked(aside, sum(m["size"] for m in members if "form" not in m)), {}
    for member in members:
        if "form" in member:
            files[member["name"]] = coder.kind.write(member["form"], next(units))
        else:
            files[member["name"]], rest = rest[: member["size"]], rest[member["size"] :]
    if digest(*files.values()).hex() != header["check"] or rest:
        raise PangenError(
            f"{path} does not come back as what it was made of: here something computes otherwise than where it was "
            "written, torch, or the library that writes PNG files; nothing was written."
        )
    return files


def _check_form(path: Path, kind: Kind, form: Form, size: int) -> None:
    """Raise where a form asks for more than a file of that size can hold."""
    count = kind.size(form)
    room = kind.size({"png": []}) if isinstance(kind, Images) and "png" in form else size + 1
    if type(count) is not int or not 0 <= count <= room:
        raise misleading(path, "a file claims to hold more than its size")


def _run_of(path: Path, header: Mapping[str, Any], given: Any) -> Run:
    """The run that a file was written with."""
    name = str(header["run"])
    if given is None and not (name and Path(name).is_dir()):
        told = f"the run '{name}'" if name else "a run that had no folder"
        raise PangenError(
            f"{path} was compressed with {told}, which is not here: name its folder with --run."
        )
    run = given if isinstance(given, Run) else load_run(name if given is None else given, device="cpu")
    if hash_of(run) != header["weights"]:
        raise PangenError(
            f"{path} was compressed with another run than {run.path or 'this one'}, or before that was trained "
            "further: name the right one with --run."
        )
    return run


@contextmanager
def fixed(run: Run, threads: int) -> Iterator[None]:
    """Arithmetic that does not depend on what its user has set."""
    before, exact = torch.get_num_threads(), torch.get_float32_matmul_precision()
    training = run.model.training
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    run.model.eval()
    try:
        with precision(run.recipe.dtype), torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)
        torch.set_float32_matmul_precision(exact)
        run.model.train(training)


def hash_of(run: Run) -> str:
    """Of all that decides probabilities: the model's settings, its codec and its weights."""
    told = repr((run.recipe.model, run.recipe.dtype, run.codec.to_json()))
    parts = [told.encode()]
    for name, tensor in run.model.state_dict().items():
        parts += [name.encode(), tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()]
    return digest(*parts).hex()


def read_inputs(inputs: Sequence[str | Path]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of files, and of all in folders, under the folders' names."""
    seen: set[str] = set()
    for given in map(Path, inputs):
        if not given.exists():
            raise PangenError(f"there is no file or folder '{given}'; check the path.")
        inside = sorted(p for p in given.rglob("*") if p.is_file()) if given.is_dir() else [given]
        top = given.resolve().parent
        for path in inside:
            name = (
                given.resolve().name
                if path == given
                else (given.resolve() / path.relative_to(given)).relative_to(top).as_posix()
            )
            if name in seen:
                raise PangenError(f"two inputs are called '{name}': compress them apart.")
            seen.add(name)
            try:
                yield name, path.read_bytes()
            except OSError as error:
                raise PangenError(f"{path} cannot be read: {error.strerror}.") from None
    if not seen:
        raise PangenError("there is no file in what was given; name files or folders.")
