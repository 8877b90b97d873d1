"""README and docs are true: what they list is what there is, and all they show runs, with tiny budgets."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
from generate import ROOT, generated, pages
from PIL import Image

from pangen import registry
from pangen.cli.main import main
from pangen.data import embedded

SMALLER = [
    (r"--budget \w+", "--steps 3"),  # on the command line
    (r"\bpangen (evaluate|compare)\b", r"pangen \1 --samples 50"),
    (r"\.compare\((.*)budget=", r".compare(\1samples=50, budget="),  # in Python
    (r"\.evaluate\(([^,)]+)", r".evaluate(\1, samples=50"),
    (r"budget=\d+", "steps=3"),
    (r"\bsteps=\d{3,}\b", "steps=20"),
    (r"\.sample\((100|1000)\b", ".sample(8"),
    (r"-n 64\b", "-n 3"),
]
"""What is written for people, and what runs here in its place."""
FEW = {"train": 300, "validation": 100, "test": 100}
"""Digits, of all there are."""
MAKE = {"demo", "test", "docs", "lint"}


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    language: str
    title: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    fence = r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$'
    for found in re.finditer(fence, page.read_text(), flags=re.MULTILINE | re.DOTALL):
        yield Block(page, found[1], found[2] or "", found[3])


def smaller(text: str) -> str:
    for pattern, replacement in SMALLER:
        text = re.sub(pattern, replacement, text)
    return text


@pytest.fixture
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = embedded.digits()
    few = replace(whole, **{name: whole.split(name).first(n) for name, n in FEW.items()})
    monkeypatch.setattr(embedded, "digits", lambda: few)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files that the pages speak of; models installed there are known."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    rng = np.random.default_rng(0)
    for i in range(24):
        path = tmp_path / "photos" / ("cats", "dogs")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9 + i % 3, 8, 3), dtype=np.uint8)).save(path)
    rows = [f"{a:.3f},{b:.3f},{i % 2}" for i, (a, b) in enumerate(rng.normal(size=(60, 2)))]
    (tmp_path / "table.csv").write_text("height,weight,kind\n" + "\n".join(rows) + "\n")
    mixed = [
        f"{'' if i % 9 == 0 else 'red' if a < 0 else 'blue'},{a:.3f},{b:.3f}"
        for i, (a, b) in enumerate(rng.normal(size=(60, 2)))
    ]
    (tmp_path / "mixed.csv").write_text("colour,height,weight\n" + "\n".join(mixed) + "\n")
    (tmp_path / "book.txt").write_text("It was the best of times, it was the worst of times. " * 40)
    (tmp_path / "names.txt").write_text("\n".join(["anna", "ben", "clara", "dora"] * 10) + "\n")
    for i in range(40):
        path = tmp_path / "clips" / ("high", "low")[i % 2] / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.5 * np.sin(np.arange(100 + i) * (0.8, 0.2)[i % 2]), 8000)
    soundfile.write(tmp_path / "long.wav", 0.1 * rng.normal(size=4800).clip(-9, 9), 8000)
    months = [
        f"{2000 + i // 12}-{i % 12 + 1:02},{10 + i % 12 + i / 10 + rng.normal():.2f},{i}" for i in range(130)
    ]
    (tmp_path / "sales.csv").write_text("month,sales,other\n" + "\n".join(months) + "\n")
    registry.entries.cache_clear()
    before = set(sys.modules)
    yield tmp_path
    registry.entries.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def install(place: Path, text: str) -> None:
    """What `pip install` makes of a package's entry points."""
    folder = place / "my_package-1.0.dist-info"
    folder.mkdir(exist_ok=True)
    lines = ["Metadata-Version: 2.1", "Name: my-package", "Version: 1.0"]
    (folder / "METADATA").write_text("\n".join(lines) + "\n")
    groups = tomllib.loads(text)["project"]["entry-points"]
    parts = [
        f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in points.items())
        for group, points in groups.items()
    ]
    (folder / "entry_points.txt").write_text("\n".join(parts) + "\n")
    registry.entries.cache_clear()


def run_command(line: str) -> None:
    """One line of a shell block."""
    words = shlex.split(smaller(line), comments=True)
    match words:
        case ["make", target]:
            assert target in MAKE
            assert f"\n{target}:" in (ROOT / "Makefile").read_text()
        case ["pip", "install", "-c", constraints, "-e", "."]:
            assert (ROOT / constraints).exists()
        case ["pangen", *argv]:
            assert main(argv) == 0, line
        case _:
            pytest.fail(f"no test knows how to run: {line}")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_generated_parts_are_current(page):
    """`python tests/docs/generate.py` brings them up to date."""
    assert generated(page.read_text()) == page.read_text()


@pytest.mark.parametrize("page", [p for p in pages() if any(blocks(p))], ids=lambda page: page.name)
def test_all_that_a_page_shows_runs(page, place, few_digits, quick_features, capsys):
    names: dict[str, object] = {}
    for block in blocks(page):
        if block.title:
            (place / block.title).write_text(block.text)
        elif block.language == "console":
            lines = [line for line in block.text.splitlines() if line]
            assert all(line.startswith("$ ") for line in lines)
            for line in lines:
                run_command(line.removeprefix("$ "))
        elif block.language == "python":
            exec(compile(smaller(block.text), f"{page.name}", "exec"), names)
        elif block.language == "toml":
            install(place, block.text)
        else:
            assert block.language == "text", f"{page.name}: a block in {block.language} is not tested"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        path = page.parent / target
        assert path.exists(), target


def test_every_page_is_in_the_navigation():
    config = tomllib.loads((ROOT / "zensical.toml").read_text())
    docs = ROOT / "docs"
    assert set(targets(config["project"]["nav"])) == {str(p.relative_to(docs)) for p in docs.rglob("*.md")}


def targets(nav: list[dict]) -> Iterator[str]:
    """The pages of a navigation, sections and all."""
    for item in nav:
        for found in item.values():
            yield from [found] if isinstance(found, str) else targets(found)


def test_a_model_of_your_own_is_forty_lines():
    (model,) = [b for b in blocks(ROOT / "docs" / "own-model.md") if b.title == "my_gaussian.py"]
    assert sum(bool(line.strip()) for line in model.text.splitlines()) < 40
