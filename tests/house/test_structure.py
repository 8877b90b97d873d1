"""The house: who may import whom, how long a file may be, what starts without torch."""

from __future__ import annotations

import ast
import builtins
import subprocess
import sys
from pathlib import Path

import pytest

import pangen

ROOT = Path(pangen.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FAMILIES = [f for f in FILES if "families" in f.parts and f.name != "__init__.py"]
CONTRACT = {"pangen.space", "pangen.settings", "pangen.model", "pangen.capabilities", "pangen.errors"}
TOOLS = ("pangen.networks", "pangen.likelihoods", "pangen.samplers")
OUTSIDE = {
    "abc",
    "torch",
    "einops",
    "numpy",
    "math",
    "collections",
    "typing",
    "dataclasses",
    "itertools",
    "functools",
    "__future__",
}
BORROWED = {"mixture.py": {"sklearn"}, "kde.py": {"sklearn"}, "arima.py": {"statsmodels"}}
"""The one third-party library that a family's file may import, lazily."""

LAYERS = ("errors", "settings", "rng", "space", "folder", "limits", "files", "memory", "threads", "precision", "capabilities", "model", "likelihoods", "networks", "samplers", "entry",
          "families", "registry", "data.stored", "data.dataset", "codecs", "data", "recipes", "run", "training", "evaluation", "tasks", "advice", "compression", "overview", "api", "cli")  # fmt: skip


def imports(path: Path) -> set[str]:
    """Modules a file imports when it is imported, type checking aside."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                f"{node.module}.{alias.name}" if node.module == "pangen" else node.module
                for alias in node.names
            }
    return found


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FAMILIES, ids=relative)
def test_a_family_imports_only_itself_the_contract_and_its_tools(path):
    for module in imports(path):
        if module.startswith("pangen"):
            own = f"pangen.families.{path.parent.name}."  # what the members of one family share
            assert module in CONTRACT or module.startswith((*TOOLS, own)), module
        else:
            assert module.split(".")[0] in OUTSIDE | BORROWED.get(path.name, set()), module


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_are_short(path):
    """A longer file holds two things; a family's file is its paper."""
    assert len(path.read_text().splitlines()) <= (160 if path in FAMILIES else 400)


def layer(module: str) -> int | None:
    name = module.removeprefix("pangen.")
    if module in ("pangen", "pangen.__version__"):
        return None
    found = [i for i, part in enumerate(LAYERS) if name == part or name.startswith(part + ".")]
    return max(found, key=lambda i: len(LAYERS[i])) if found else None


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_go_one_way(path):
    """From the command line down to the contract, never back up; type checking and lazy imports aside."""
    module = "pangen." + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    own = layer(module)
    if own is None or path.name in ("__main__.py", "__init__.py"):
        return
    for node in ast.parse(path.read_text()).body:  # top level only
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pangen"):
            other = layer(node.module)
            assert other is None or other <= own, f"{module} imports {node.module}"


@pytest.mark.parametrize("module", ["pangen", "pangen.registry", "pangen.cli.main"])
def test_starts_without_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_pulls_in_torchvision():
    """It would replace the CPU build of torch by gigabytes of CUDA."""
    text = (ROOT.parent.parent / "pyproject.toml").read_text() + (
        ROOT.parent.parent / "constraints.txt"
    ).read_text()
    assert "torchvision" not in text
    assert "torchaudio" not in text


INTERNAL = {
    "NotImplementedError": ("",),
    "AttributeError": ("__init__.py", "data/__init__.py"),
    "SystemExit": ("__main__.py", "cli/"),
    "BrokenPipeError": ("cli/",),
    "KeyboardInterrupt": ("evaluation/comparison.py",),
    "RuntimeError": ("model.py",),
    "TypeError": ("recipes/recipe.py", "codecs/__init__.py", "compression/"),
    "ValueError": ("files.py", "data/local.py", "data/sound.py", "codecs/subwords.py", "compression/"),
}
"""Exceptions of Python's that are raised, and where: they speak to the author of a model, end the program, or are
caught by who knows what to tell the user."""


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_users_meet_pangen_errors_alone(path):
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.Assert), f"line {node.lineno} tells a user nothing"
        if isinstance(node, ast.Raise) and node.exc is not None:
            name = ast.unparse(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
            if hasattr(builtins, name):
                assert relative(path).startswith(INTERNAL.get(name, ())), f"line {node.lineno} raises {name}"
