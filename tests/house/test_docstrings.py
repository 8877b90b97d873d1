"""What a public docstring says: shapes, units, errors, source."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import pangen

ROOT = Path(pangen.__file__).parent
SAMPLERS = sorted((ROOT / "samplers").glob("*.py"))
FILES = [ROOT / "model.py", ROOT / "capabilities.py", *SAMPLERS]
VERBS = [name for name in pangen.__all__ if inspect.isfunction(getattr(pangen, name))]
SHAPE = re.compile(r"`[^`]*\([^`]*`|elementwise|shape of")
YEAR = re.compile(r"\b(18|19|20)\d\d\b")
NO_PAPER = {"__init__.py", "choice.py", "denoise.py"}
"""Of the samplers: names, and what all of them share."""


class Member(NamedTuple):
    """A public class, function or method, and what is said of it: by itself, by its like, and around it."""

    where: str
    node: ast.ClassDef | ast.FunctionDef
    own: str
    promised: str
    """By methods of that name in these files: a protocol's, or an abstract class's."""
    around: str
    """By its class and its module."""


def said(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    return ast.get_docstring(node) or ""


def is_public(name: str) -> bool:
    return name == "__call__" or not name.startswith("_")


def promises() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                for method in node.body:
                    if isinstance(method, ast.FunctionDef):
                        found[method.name] = found.get(method.name, "") + said(method)
    return found


PROMISES = promises()


def members() -> Iterator[Member]:
    def inside(node: ast.Module | ast.ClassDef, where: str, around: str) -> Iterator[Member]:
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef) and is_public(child.name):
                place, promised = f"{where}:{child.name}", ""
                if isinstance(node, ast.ClassDef):
                    promised = PROMISES.get(child.name, "")
                yield Member(place, child, said(child), promised, around)
                if isinstance(child, ast.ClassDef):
                    yield from inside(child, place, around + said(child))

    for path in FILES:
        module = ast.parse(path.read_text())
        yield from inside(module, path.name, said(module))


MEMBERS = list(members())
FUNCTIONS = [m for m in MEMBERS if isinstance(m.node, ast.FunctionDef)]


def returns(member: Member, kind: str) -> bool:
    found = member.node.returns if isinstance(member.node, ast.FunctionDef) else None
    return found is not None and re.search(rf"\b{kind}\b", ast.unparse(found)) is not None


def refuses(node: ast.AST) -> bool:
    """Whether it raises an error that users meet."""
    raised = [ast.unparse(n.exc) for n in ast.walk(node) if isinstance(n, ast.Raise) and n.exc is not None]
    return any(text.startswith(("PangenError(", "unknown(")) for text in raised)


def test_the_rules_have_something_to_hold():
    assert len(FUNCTIONS) > 150
    assert len(VERBS) > 25
    assert sum(returns(m, "Tensor") for m in FUNCTIONS) > 100


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.where)
def test_all_is_documented(member):
    assert member.own or member.promised


@pytest.mark.parametrize("member", [m for m in FUNCTIONS if returns(m, "Tensor")], ids=lambda m: m.where)
def test_tensors_have_shapes(member):
    assert SHAPE.search(member.own + member.promised + member.around)


@pytest.mark.parametrize("member", [m for m in FUNCTIONS if returns(m, "LogProb")], ids=lambda m: m.where)
def test_log_probabilities_have_a_unit(member):
    assert re.search(r"\bnats\b", member.own + member.promised)


@pytest.mark.parametrize("member", [m for m in FUNCTIONS if refuses(m.node)], ids=lambda m: m.where)
def test_what_is_refused_is_told(member):
    assert "Raises:" in member.own + member.around


@pytest.mark.parametrize("path", [p for p in SAMPLERS if p.name not in NO_PAPER], ids=lambda p: p.name)
def test_samplers_name_their_source(path):
    module = ast.parse(path.read_text())
    documented = [n for n in ast.walk(module) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
    assert any(YEAR.search(said(node)) for node in documented)


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_tell_what_they_take_and_what_they_refuse(verb):
    function = getattr(pangen, verb)
    text, parameters = inspect.getdoc(function) or "", inspect.signature(function).parameters
    assert text
    for name in parameters:
        assert re.search(rf"^\s+{name}: |\b{name}:|`{name}`", text, flags=re.MULTILINE), (
            f"nothing is said of {name}"
        )
    assert "Raises:" in text or not parameters
