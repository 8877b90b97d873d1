"""What the verbs print: results on stdout, everything on the way there on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def console(*, errors: bool = False, width: int = 160) -> Console:
    """A console on stdout, or on stderr; `width` columns where nobody says how many: in a file or a pipe."""
    from rich.console import Console

    stream = sys.stderr if errors else sys.stdout
    known = stream.isatty() or "COLUMNS" in os.environ
    screen = Console(file=stream, width=None if known else width, highlight=False)
    screen.on_broken_pipe = _closed  # type: ignore[method-assign]  # rich has it to be replaced
    return screen


def _closed() -> None:
    raise BrokenPipeError  # `main` ends quietly; rich by itself would exit with 1


def print_json(value: Any) -> None:
    """One JSON object on stdout; numbers that are not finite become null."""
    print(json.dumps(_plain(value), ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def print_facts(facts: Mapping[str, Any]) -> None:
    """A nested result as aligned `name value` lines, a block for each inner mapping."""
    print("\n".join(_lines(facts, "")))


def _lines(facts: Mapping[str, Any], indent: str) -> list[str]:
    lines: list[str] = []
    width = max((len(str(name)) for name in facts), default=0)
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            lines += [f"{indent}{name}", *_lines(value, indent + "  ")]
        elif isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
            lines.append(f"{indent}{name}")
            for item in value:
                lines.append(f"{indent}  {', '.join(f'{k} {_text(v)}' for k, v in item.items())}")
        else:
            lines.append(f"{indent}{name:{width}}  {_text(value)}".rstrip())
    return lines


def _text(value: Any) -> str:
    if value is None or (isinstance(value, list | tuple | Mapping) and not value):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)


def print_prose(header: Sequence[str], blocks: Sequence[Sequence[Sequence[str]]], *, names: int = 1) -> None:
    """A table of words, block after block; all but the first `names` columns wrap to the screen's width."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(header):
        table.add_column(column, no_wrap=i < names)
    for block in blocks:
        for row in block:
            table.add_row(*row)
        table.add_section()
    console().print(table)


def print_numbers(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """A table of which all but the first `left` columns are numbers; one wider than the terminal continues below."""
    from rich import box
    from rich.table import Table

    widths = _widths(header, rows)
    room = _room(widths)
    screen = console()
    screen.width = room
    pending = list(range(1, len(header)))
    while pending:
        shown, used = [0], widths[0]
        while pending and (len(shown) == 1 or used + widths[pending[0]] <= room):
            used += widths[pending[0]]
            shown.append(pending.pop(0))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for i in shown:
            table.add_column(header[i], no_wrap=True, justify="left" if i < left else "right")
        for row in rows:
            table.add_row(*(row[i] for i in shown))
        screen.print(table)


def fitting(header: Sequence[str], rows: Sequence[Sequence[str]], telling: Sequence[int]) -> list[int]:
    """Those columns of a table that the terminal has room for, in their order; `telling`: all of them, the first needed most."""
    widths = _widths(header, rows)
    room = _room(widths)
    shown: list[int] = []
    for i in telling:
        if not shown or sum(widths[j] for j in shown) + widths[i] <= room:
            shown.append(i)
    return sorted(shown)


def _widths(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Of the columns of a table of numbers, and of what parts them."""
    gap = 3
    return [max(len(row[i]) for row in (header, *rows)) + gap for i in range(len(header))]


def _room(widths: Sequence[int]) -> int:
    """Columns of the terminal; a file or a pipe has as many as it takes."""
    return console().width if sys.stdout.isatty() else sum(widths)
