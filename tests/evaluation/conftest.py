"""Fakes stand in the registry beside the real models while a test of this folder runs."""

from __future__ import annotations

import pytest
from evaluation_fakes import FAKES

from pangen.registry import entries


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, entry in FAKES.items():
        monkeypatch.setitem(entries(), name, entry)
