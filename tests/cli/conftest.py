"""The program in this process, in an empty folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pangen.cli.main import main


class Outcome(NamedTuple):
    """What one command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def pangen(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """`pangen ...` with the arguments given."""

    def command(*argv: object) -> Outcome:
        capsys.readouterr()
        code = main([str(a) for a in argv])
        return Outcome(code, *capsys.readouterr())

    return command
