"""The parts of README and docs that follow from the code, between `<!-- name -->` and `<!-- /name -->`.

`python tests/docs/generate.py` writes them anew; a test checks that nothing would change.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from pangen.cli.main import build_parser
from pangen.cli.models import by_family
from pangen.registry import entries

ROOT = Path(__file__).parents[2]


def models() -> str:
    """The list of models."""
    lines = ["| family | model | what it is | density | paper |", "|---|---|---|---|---|"]
    for family, members in by_family():
        for i, entry in enumerate(members):
            shown = "" if i else family
            lines.append(f"| {shown} | `{entry.name}` | {entry.summary} | {entry.density} | {entry.paper} |")
    return "\n".join(lines)


def cards() -> str:
    """What each model accepts, can do and costs."""
    lines = [
        "| model | accepts | conditional | capabilities | sampling cost | no density, because |",
        "|---|---|---|---|---|---|",
    ]
    for entry in entries().values():
        can = ", ".join(f"`{name}`" for name in entry.capabilities)
        why = entry.reason if entry.density == "none" else ""
        yes = "yes" if entry.conditional else ""
        lines.append(
            f"| `{entry.name}` | {', '.join(entry.spaces)} | {yes} | {can} | {entry.sampling} | {why} |"
        )
    return "\n".join(lines)


def options() -> str:
    """Every verb with its arguments."""
    parser = build_parser()
    verbs = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    helps = {choice.dest: choice.help for choice in verbs._choices_actions}
    parts = []
    for name, verb in verbs.choices.items():
        lines = [f"## pangen {name}", "", f"{helps[name][0].upper()}{helps[name][1:]}.", ""]
        lines += ["| argument | meaning |", "|---|---|"]
        for action in verb._actions:
            if action.dest == "help":
                continue
            shown = ", ".join(action.option_strings)
            value = "" if action.nargs == 0 else str(action.metavar or action.dest).replace("|", " or ")
            lines.append(f"| `{' '.join(filter(None, (shown, value)))}` | {action.help} |")
        parts.append("\n".join([*lines, *(["", verb.epilog] if verb.epilog else [])]))
    return "\n\n".join(parts)


PARTS: dict[str, Callable[[], str]] = {"models": models, "cards": cards, "options": options}


def generated(text: str) -> str:
    """The text with its generated parts as they should be."""
    for name, make in PARTS.items():
        marks = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text = re.sub(
            marks, lambda found, make=make: f"{found[1]}{make()}\n{found[2]}", text, flags=re.DOTALL
        )
    return text


def pages() -> list[Path]:
    """README and the pages of the site."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


if __name__ == "__main__":
    for page in pages():
        page.write_text(generated(page.read_text()))
