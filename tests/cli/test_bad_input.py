"""Every mistake a user can make is one sentence: what, where, what to do; and nothing is written."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from mistakes import MISTAKES
from PIL import Image

GREY = np.arange(36, dtype=np.uint8).reshape(6, 6) * 7


def _picture(path: Path, pixels: np.ndarray = GREY) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory, digits_run: Path) -> Path:
    """A folder of everything that can be wrong."""
    root = tmp_path_factory.mktemp("bad")
    (root / "empty").mkdir()
    for i in range(12):
        _picture(root / "truncated" / f"{i}.png")
        _picture(root / "mixed" / f"{i}.png", GREY if i else GREY[:4])
        _picture(root / "one-class" / "only" / f"{i}.png")
    broken = root / "truncated" / "5.png"
    broken.write_bytes(broken.read_bytes()[:60])
    values = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        spoilt = values.copy()
        spoilt[7, 1] = value
        np.save(root / f"{name}.npy", spoilt)
    np.savez(root / "one-label.npz", x=values, y=np.zeros(40, dtype=np.int64))
    rows = [f"{a:.3f},{b:.3f},{'uv'[i % 2]}" for i, (a, b, _) in enumerate(values)]
    (root / "words.csv").write_text("height,weight,colour\n" + "\n".join(rows) + "\n")
    (root / "gap.csv").write_text("height,weight\n1.0,2.0\n3.0,\n5.0,6.0\n" + "1.0,2.0\n" * 20)
    (root / "plain.csv").write_text("height,weight\n" + "\n".join(f"{a},{b}" for a, b, _ in values) + "\n")
    (root / "text.txt").write_text("the quick brown fox " * 50)
    (root / "notes.pdf").write_text("%PDF")
    (root / "a-file").write_text("not a folder")
    for name in ("no-weights", "cut-weights", "bad-recipe", "no-card", "bad-codec", "new-recipe"):
        shutil.copytree(digits_run, root / name)
    (root / "no-weights" / "weights.safetensors").unlink()
    weights = root / "cut-weights" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    (root / "bad-recipe" / "recipe.json").write_text('{"data": ')
    (root / "new-recipe" / "recipe.json").write_text('{"version": 99}')
    (root / "no-card" / "card.json").unlink()
    codec = json.loads((root / "bad-codec" / "codec.json").read_text())
    (root / "bad-codec" / "codec.json").write_text(json.dumps(codec | {"shape": [1, 5, 5]}))
    return root


def files(*roots: Path) -> dict[str, int]:
    return {str(p): p.stat().st_size for root in roots for p in root.rglob("*") if p.is_file() or p.is_dir()}


@pytest.mark.parametrize(("command", "words"), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_bad_input_is_one_sentence(command, words, pangen, here, bad, digits_run):
    before = files(here, bad, digits_run)
    outcome = pangen(*shlex.split(command.format(bad=bad, run=digits_run)))
    assert outcome.code == 2, outcome.err
    lines = outcome.err.strip().splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("pangen: ")
    assert lines[0][-1] in ".?"
    for word in words.split():
        assert word.lower() in lines[0].lower(), lines[0]
    assert outcome.out == ""
    assert files(here, bad, digits_run) == before


def test_bad_images_are_counted_when_skipped(pangen, bad):
    outcome = pangen("data", bad / "truncated", "--skip-bad", "--json")
    assert outcome.code == 0, outcome.err
    assert "1" in json.dumps(outcome.json["notes"])


def test_mixed_sizes_are_scaled_when_asked(pangen, bad):
    outcome = pangen("data", bad / "mixed", "--size", "5x7", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["shape"][-2:] == [5, 7]


def test_a_model_that_refuses_its_settings_leaves_nothing_behind(pangen, tmp_path):
    out = tmp_path / "run"
    found = pangen("fit", "vit", "digits", "--unconditional", "--steps", "2", "-o", str(out))
    assert found.code == 2
    assert "labels" in found.err
    assert not out.exists()
