"""Parsing with errors that are one sentence, and that know the nearest right name."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from pangen.errors import PangenError, unknown


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, that raises `PangenError` instead of printing its usage."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        if found := re.match(r"the following arguments are required: (.*)", message):
            names = found[1].replace(", ", " and ")
            raise PangenError(f"{self.prog} needs {names}; `{self.prog} --help` shows how.")
        if found := re.match(r"argument (\S+?)(?:/\S+)?: expected .*", message):
            raise PangenError(f"option '{found[1]}' needs a value; `{self.prog} --help` shows which.")
        if found := re.match(r"argument (\S+?)(?:/\S+)?: ignored explicit argument (.*)", message):
            raise PangenError(f"option '{found[1]}' takes no value, but got {found[2]}.")
        raise PangenError(f"{self.prog}: {message}.")

    @property
    def options(self) -> list[str]:
        """The long options this parser knows."""
        return [name for name in self._option_string_actions if name.startswith("--")]


def parse(parser: Parser, argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of one command; `extras` holds the unknown `--name value` pairs of a verb.

    Only verbs that set the default `takes_extras` get them; elsewhere they are errors.
    """
    if not argv:
        parser.print_help()
        sys.exit(0)
    if argv[0].startswith("-"):
        check_options(parser, {argv[0]: None} if argv[0].startswith("--") else {})
        args, rest = parser.parse_known_args(argv)
        raise unknown("option", (rest or argv)[0], parser.options)
    verbs = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    if argv[0] not in verbs:
        raise unknown("verb", argv[0], verbs, hint=f"the verbs are {', '.join(verbs)}.")
    verb = verbs[argv[0]]
    known, extras = _split(verb, argv[1:])
    if not verb.get_default("takes_extras"):
        check_options(verb, extras)
    args, rest = verb.parse_known_args(known)
    if rest:
        kind = "option" if rest[0].startswith("-") else "argument"
        raise PangenError(f"unexpected {kind} '{rest[0]}'; `{verb.prog} --help` shows what there is.")
    if getattr(args, "out", None) == "":
        raise PangenError(
            "-o names no place; give a path, and look whether a variable of your shell is empty."
        )
    args.extras, args.parser = extras, verb
    return args


def check_options(parser: Parser, given: dict[str, str | None]) -> None:
    """Raise the error for the first option that the parser does not know."""
    for name in given:
        if name.partition("=")[0] not in parser.options:
            raise unknown("option", name, parser.options, hint=f"`{parser.prog} --help` lists them.")


def values(extras: dict[str, str | None]) -> dict[str, Any]:
    """Names without their dashes, and values: JSON where it is JSON, else the text itself."""
    found = {}
    for name, text in extras.items():
        if text is None:
            raise PangenError(f"option '{name}' needs a value, such as '{name} 8'.")
        try:
            found[name.removeprefix("--")] = json.loads(text)
        except ValueError:
            found[name.removeprefix("--")] = text
    return found


def _split(parser: Parser, argv: Sequence[str]) -> tuple[list[str], dict[str, str | None]]:
    """Arguments without the unknown `--name value` and `--name=value`, and those."""
    known: list[str] = []
    extras: dict[str, str | None] = {}
    waiting = list(argv)
    while waiting:
        token = waiting.pop(0)
        name, equals, value = token.partition("=")
        if not token.startswith("--") or token == "--" or name in parser.options:
            known.append(token)
        elif equals:
            extras[name] = value
        else:
            extras[name] = waiting.pop(0) if waiting and not waiting[0].startswith("--") else None
    return known, extras
