"""Every mistake a user can make is one sentence: what, where, what to do; and nothing is written."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
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
    for name in ("no-weights", "cut-weights", "bad-recipe", "no-card", "bad-codec"):
        shutil.copytree(digits_run, root / name)
    (root / "no-weights" / "weights.safetensors").unlink()
    weights = root / "cut-weights" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    (root / "bad-recipe" / "recipe.json").write_text('{"data": ')
    (root / "no-card" / "card.json").unlink()
    codec = json.loads((root / "bad-codec" / "codec.json").read_text())
    (root / "bad-codec" / "codec.json").write_text(json.dumps(codec | {"shape": [1, 5, 5]}))
    return root


CASES = [
    # names
    ("fitt vae digits", "unknown verb 'fitt' 'fit'"),
    ("--jsn", "unknown option '--jsn'"),
    ("fit indepndent digits", "unknown model 'independent'"),
    ("fit zzzz digits", "unknown model `pangen models`"),
    ("fit independent digts", "'digts' 'digits'"),
    ("fit independent no/such/place", "no/such/place"),
    ("data digts", "'digts' 'digits'"),
    ("compare digits --models independent,indepndent", "unknown model 'indepndent' 'independent'"),
    ("compare digts", "'digts' 'digits'"),
    ("evaluate {run} --split tst", "unknown split 'test'"),
    ("evaluate {run} --data digts", "'digts' 'digits'"),
    ("sample {run} --given 12", "unknown label '12'"),
    ("fit independent digits --device cudda", "unknown device 'cudda' 'cuda'"),
    ("models --jsn", "unknown option '--jsn' '--json'"),
    ("fit independent digits --resum", "unknown option '--resum' '--resume'"),
    ("sample {run} --stps 3", "unknown option '--stps'"),
    # recipe fields
    ("fit independent digits --model.binz 3", "unknown recipe field 'model.binz' 'model.bins'"),
    ("fit independent digits --training.larning 3", "unknown recipe field 'training.larning'"),
    ("fit independent digits --lr 3", "'--lr' '--training.lr'"),
    ("fit independent digits --bins 3", "'--bins' '--model.bins'"),
    ("fit independent digits --training.lr fast", "training.lr fast number"),
    ("fit independent digits --training.lr -1", "training.lr -1 range"),
    ("fit realnvp moons --model.scales 0", "model.scales 0 greater equal 1"),
    ("fit gan moons --model.unlabelled 1.5", "model.unlabelled 1.5 less equal 1"),
    ("fit independent digits --training.lr", "'--training.lr' needs a value"),
    # values
    ("fit independent", "needs DATA"),
    ("fit independent digits more", "unexpected argument 'more'"),
    ("fit independent digits --steps 0", "--steps whole number at least 1 '0'"),
    ("fit independent digits --steps many", "--steps whole number 'many'"),
    ("fit independent digits --steps", "'--steps' needs a value"),
    ("fit independent digits --budget soon", "'soon' budget 60s"),
    ("fit independent digits --budget 0s", "'0s' budget"),
    ("fit independent digits --budget 2s --steps 3", "either steps or a budget"),
    ("fit independent {bad}/mixed --size 28", "'28' 28x28"),
    ("sample {run} -n 0", "-n whole number at least 1"),
    ("sample {run} -n 1000000000000", "1000000000000 samples GiB fewer"),
    ("evaluate {run} --lines", "--data"),
    # data
    ("fit independent {bad}/empty", "empty image"),
    ("fit independent {bad}/truncated", "5.png --skip-bad"),
    ("data {bad}/truncated", "5.png --skip-bad"),
    ("fit independent {bad}/mixed", "size --size"),
    ("fit independent {bad}/nan.npy", "nan.npy NaN"),
    ("fit independent {bad}/inf.npy", "inf.npy infinit"),
    ("fit independent {bad}/one-class", "one class"),
    ("fit independent {bad}/one-label.npz", "one-label.npz one class"),
    ("fit independent {bad}/words.csv", "words.csv colour"),
    ("fit independent {bad}/gap.csv", "gap.csv weight"),
    ("fit independent {bad}/plain.csv --target wight", "'wight' 'weight'"),
    ("fit independent {bad}/notes.pdf", "notes.pdf"),
    ("fit independent {bad}/text.txt", "independent text accepts"),
    # places
    ("fit independent digits -o {bad}/a-file", "a-file already exists -o"),
    ("fit independent digits -o {bad}/a-file/run", "a-file/run -o"),
    ("fit independent digits -o {run}", "already exists --resume"),
    ("fit independent digits -o nowhere --resume", "no run to resume nowhere"),
    ("fit independent digits -o {run} --resume", "complete"),
    ("fit independent digits -o {run} --resume --seed 4", "seed = 0 4"),
    ("compare digits --models independent -o {bad}/a-file", "a-file -o"),
    ("sample {run} -o x.jpg", "x.jpg .png"),
    ("sample {run} -o nowhere/x.png", "nowhere/x.png -o"),
    ("sample {run} -o {bad}/empty/../mixed", "mixed .png"),
    ("sample {run} -o x.txt", "images .png .npy"),
    # runs
    ("sample nowhere", "no run folder 'nowhere' pangen fit"),
    ("sample {bad}/empty", "recipe.json missing"),
    ("sample {bad}/no-weights", "weights.safetensors missing"),
    ("sample {bad}/cut-weights", "weights.safetensors damaged"),
    ("evaluate {bad}/cut-weights", "weights.safetensors damaged"),
    ("sample {bad}/bad-recipe", "recipe.json damaged"),
    ("sample {bad}/no-card", "card.json missing"),
    ("sample {bad}/bad-codec", "damaged"),
]
"""Commands, and words that their sentence holds."""


def files(*roots: Path) -> dict[str, int]:
    return {str(p): p.stat().st_size for root in roots for p in root.rglob("*") if p.is_file() or p.is_dir()}


@pytest.mark.parametrize(("command", "words"), CASES, ids=[command for command, _ in CASES])
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
