"""What all tests share: one thread for each process, and small things to test with."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Each test starts from the same global random state, whatever ran before it."""
    torch.default_generator.manual_seed(0)  # `torch.manual_seed` takes a millisecond, for devices not in use


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a naive Bayes run on the digits: complete, and fitted in a moment. Read only."""
    import pangen

    folder = tmp_path_factory.mktemp("runs") / "independent-digits"
    pangen.fit("independent", "digits", out=folder, device="cpu")
    return folder


@pytest.fixture
def quick_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features from a classifier of a few steps, for tests in which their quality is no matter."""
    from pangen.evaluation import features

    monkeypatch.setattr(features, "_taught", partial(features._taught, steps=5))


@pytest.fixture(scope="session")
def local_data() -> Callable[[str], Path]:
    """The path of a real data set under PANGEN_DATA; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        folder = os.environ.get("PANGEN_DATA")
        if not folder:
            pytest.skip("PANGEN_DATA names no folder of real data")
        path = Path(folder) / name
        if not path.exists():
            pytest.skip(f"there is no {name} in PANGEN_DATA={folder}")
        return path

    return find
