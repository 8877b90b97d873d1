"""The machine as Pangen finds it, and the traps on it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from pangen.data.known import HOME, KNOWN, data_home
from pangen.memory import free_memory, gibibytes
from pangen.threads import PATIENCE

ROOM = 2**30
"""Bytes without which a disk is all but full."""
WAITING = "OMP_WAIT_POLICY"
HIDDEN = ("dev",)
"""Extras for those who work on Pangen."""


def doctor() -> dict[str, Any]:
    """Versions, devices, threads, memory, folders, extras and `warnings` of known traps, as one JSON-able object."""
    facts = {
        "versions": _versions(),
        "devices": _devices(),
        "threads": _threads(),
        "memory": _memory(),
        "data": _data(),
        "folders": {name: _folder(path) for name, path in _folders().items()},
        "extras": _extras(),
    }
    return facts | {"warnings": [*_traps(facts)]}


def _versions() -> dict[str, str]:
    import pangen

    names = ("torch", "numpy", "scikit-learn", "safetensors", "pydantic")
    return {
        "pangen": pangen.__version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        **{name: _version(name) for name in names},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _devices() -> dict[str, Any]:
    import torch

    from pangen.training.record import processor

    cuda = torch.cuda.is_available()
    return {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
        "mps": torch.backends.mps.is_available(),
        "torch built for": f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU",
    }  # fmt: skip


def usable_cores() -> float:
    """Processor cores that this process may use: its affinity, and the share that its container is given."""
    try:
        cores: float = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    try:
        most, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(cores, int(most) / int(period))
    except (OSError, ValueError):  # no container, or no limit
        return cores


def _threads() -> dict[str, Any]:
    import torch

    return {
        "cores": os.cpu_count(),
        "usable cores": usable_cores(),
        "of torch": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
        **{name: os.environ.get(name, "") for name in PATIENCE},
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _memory() -> dict[str, Any]:
    free = free_memory()
    return {"free": None if free is None else gibibytes(free)}


def _data() -> dict[str, Any]:
    kept = [known for known in KNOWN.values() if known.source == "files"]
    return {
        "folder": str(data_home()),
        "exists": data_home().is_dir(),
        "set by": HOME if os.environ.get(HOME) else "default",
        "found": [known.name for known in kept if known.missing() is None],
        "missing": [known.name for known in kept if known.missing() is not None],
    }


def _folders() -> dict[str, Path]:
    return {
        "current": Path.cwd(),
        "temporary": Path(tempfile.gettempdir()),
        "cache": Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser(),
    }


def _folder(path: Path) -> dict[str, Any]:
    """Where a folder is, or would be made, and what room there is."""
    place = next(p for p in (path, *path.parents) if p.exists())
    return {
        "path": str(path),
        "writable": os.access(place, os.W_OK),
        "free": gibibytes(shutil.disk_usage(place).free),
        "full": shutil.disk_usage(place).free < ROOM,
    }


def _extras() -> dict[str, dict[str, str]]:
    """By name of the extra its packages and their versions, empty where they are not installed."""
    found: dict[str, dict[str, str]] = {}
    for line in metadata.requires("pangen") or []:
        part = re.match(r"([\w.-]+).*extra == [\"']([\w-]+)[\"']", line)
        if part and part[2] not in HIDDEN and part[1] != "pangen":
            found.setdefault(part[2], {})[part[1]] = _version(part[1])
    return found


def _traps(facts: dict[str, Any]) -> list[str]:
    """What is known to go wrong on such a machine, each with its remedy."""
    from pangen.networks.linear import onednn_is_faster

    devices, threads, data = facts["devices"], facts["threads"], facts["data"]
    found = []
    built = devices["torch built for"]
    if built != "CPU" and not devices["accelerators"]:
        found.append(
            f"torch is built for {built} and finds no such device: install the driver, or the smaller build for "
            "processors (pip install torch --index-url https://download.pytorch.org/whl/cpu)."
        )
    if built == "CPU" and Path("/dev/nvidia0").exists():
        found.append(
            "there is an NVIDIA device, and torch is built for processors alone: install a CUDA build of it."
        )
    if threads[WAITING].lower() != "passive" and threads["of torch"] > 1:
        found.append(
            f"{WAITING} is {threads[WAITING] or 'not set'}: on a busy machine threads that wait actively make a step up "
            f"to 100 times slower; set {WAITING}=passive before Python starts."
        )
    if threads["of torch"] > threads["usable cores"]:
        found.append(
            f"torch takes {threads['of torch']} threads, and {threads['usable cores']:g} cores can be used: set "
            f"OMP_NUM_THREADS={max(int(threads['usable cores']), 1)}, or --threads."
        )
    if threads["load"] is not None and threads["load"] > 1.5 * threads["cores"]:
        found.append(
            f"{threads['load']:.0f} programs compete for {threads['cores']} cores: budgets in seconds buy fewer steps."
        )
    if onednn_is_faster():
        found.append(
            "MKL does without AVX-512 on this processor of AMD's: Pangen's models avoid it; in one of your own take "
            "pangen.networks.linear.Linear, not torch.nn.Linear."
        )
    if data["set by"] == HOME and not data["exists"]:
        found.append(f"{HOME} names {data['folder']}, which does not exist: make it, or set another.")
    for name, folder in facts["folders"].items():
        if not folder["writable"]:
            found.append(f"the {name} folder {folder['path']} cannot be written: {_READ_ONLY[name]}.")
        elif folder["full"]:
            found.append(
                f"{folder['free']} are left on the disk of the {name} folder {folder['path']}: make room."
            )
    return found


_READ_ONLY = {
    "current": "say with -o where runs go",
    "temporary": "set TMPDIR to one that can",
    "cache": "set XDG_CACHE_HOME to one that can, or matplotlib looks for its fonts at each start",
}
