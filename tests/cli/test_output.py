"""Tables of numbers: whole in a file or a pipe, and on a terminal within its width."""

from __future__ import annotations

import re
import sys

import pytest

from pangen.cli import compare
from pangen.cli.output import fitting, print_numbers

LAST = "peak MB"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch):
    """Stdout becomes a terminal of so many columns."""

    def of(width: int) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm")

    return of


@pytest.fixture
def result(pangen, quick_features):
    return pangen("compare", "digits", "--models", "independent", "-o", "c", "--json").json


def plain(text: str) -> str:
    """Without what a terminal makes bold."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def heads(text: str) -> list[str]:
    """Of each part of a table the line of its headings."""
    return [line for line in text.splitlines() if line.lstrip().startswith("model")]


def told(result, here, capsys) -> str:
    capsys.readouterr()
    compare._tell(result, here / "c")
    return plain(capsys.readouterr().out)


def test_a_comparison_fits_a_terminal_and_says_what_is_missing(result, here, capsys, terminal):
    """At every width one table, and each of its columns is in it or named below."""
    (whole,) = heads(told(result, here, capsys))
    names = re.split(r" {3,}", whole.strip())
    assert names[:3] == ["model", "family", "bits/dim ↓"]
    assert names[-1] == LAST
    before: set[str] = set()
    for width in (80, 120, 200, 300):
        terminal(width)
        text = told(result, here, capsys)
        (head,) = heads(text)
        shown = re.split(r" {3,}", head.strip())
        assert all(len(line) <= width for line in text.split("There is no room")[0].splitlines())
        assert {"model", "bits/dim ↓", "Fréchet ↓", "coverage ↑"} | before <= set(shown)
        order = iter(names)
        assert all(name in order for name in shown)
        named = re.search(r"There is no room for: (.*)\. The report has them\.", text)
        assert set(shown) | set(named[1].split("; ") if named else ()) >= set(names) - {"rank"}
        assert (named is None) == (width == 300)
        before = set(shown)
    assert shown == names


def test_a_pipe_has_no_width(result, here, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    (head,) = heads(told(result, here, capsys))
    assert head.rstrip().endswith(LAST)


def test_other_tables_continue_below_on_a_narrow_terminal(capsys, terminal):
    header, rows = ["model", "first", "second"], [["name", "1234567890", "2345678901"]]
    terminal(30)
    print_numbers(header, rows)
    parts = heads(plain(capsys.readouterr().out))
    assert [part.split() for part in parts] == [["model", "first"], ["model", "second"]]
    assert fitting(header, rows, [0, 2, 1]) == [0, 2]
    terminal(3)
    assert fitting(header, rows, [0, 2, 1]) == [0]
