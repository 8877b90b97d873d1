"""Trouble in data: what is planted is found and counted, and sets without it raise no alarm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import pangen
from pangen.data import Data, Split, load_data, memory_data
from pangen.data import trouble as module
from pangen.data.dataset import Column
from pangen.data.describe import describe_data
from pangen.data.known import KNOWN
from pangen.data.trouble import find_trouble

RNG = np.random.default_rng(0)
QUIET = [known.name for known in KNOWN.values() if known.source != "files"]
SMALL = {"independent": {}, "made": {"model.width": 4}}
KEPT = {"olivetti-faces": "olivetti_faces", "cifar10-lossless-4k": "cifar10_lossless_4k", "ett": "ett"}


def images(n: int = 300, top: int = 255) -> np.ndarray:
    return RNG.integers(0, top + 1, size=(n, 6, 6)).astype(np.uint8)


def told(data: Data) -> str:
    return " ".join(find_trouble(data).warnings)


@pytest.mark.parametrize("name", QUIET)
def test_no_false_alarm_on_what_comes_with_the_package(name):
    assert find_trouble(load_data(name)).warnings == ()


@pytest.mark.parametrize("name", KEPT)
def test_no_false_alarm_on_local_data(name, local_data):
    local_data(KEPT[name])
    assert find_trouble(load_data(name)).warnings == ()


def test_what_is_wrong_with_the_tables_of_uci_is_told(local_data):
    """One in 27 of `protein` is a copy, and seven columns of `bike` are no real numbers."""
    local_data("uci_regression")
    assert "1712 of 45730 examples are copies" in told(load_data("uci-protein"))
    assert "7 columns" in told(load_data("uci-bike"))


def test_copies_and_leaks_are_counted():
    data = memory_data(images())
    x, test = data.train.x, data.test.x.clone()
    test[:3] = x[:3]
    leaky = replace(data, test=Split(test))
    assert find_trouble(data).warnings == ()
    found = find_trouble(leaky)
    assert found.counts["copies"] == found.counts["copies of training examples in test"] == 3
    assert "3 of 30 examples in test are copies of training examples, and 0 would be by chance" in told(leaky)
    twice = replace(data, train=Split(torch.cat([x, x[:40]])))
    assert "40 of 340 examples are copies of another" in told(twice)


def test_copies_that_chance_explains_are_no_leak():
    """Of few possible texts, as many held-out ones are known from training as training ones are from each other."""
    words = [f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"]
    data = memory_data([words[i] for i in RNG.integers(0, len(words), 2000)])
    found = find_trouble(data)
    assert found.counts["copies of training examples in test"] == len(data.test)
    assert not any("by chance" in sentence for sentence in found.warnings)


def test_copies_with_another_label():
    x = images()
    y = np.arange(300) % 3
    x[:30], y[:30] = x[30:60], (y[30:60] + 1) % 3
    assert "30 examples are copies of another that has another label" in told(memory_data(x, y))


def test_images_of_one_tone_or_nearly_black():
    x = images()
    x[:60] = RNG.integers(0, 256, size=(60, 1, 1))
    assert "60 of 300 images are of one tone" in told(memory_data(x))
    assert "values 0 to 15 of 0 to 255: images are nearly black" in told(memory_data(images(top=15)))
    framed = images()
    framed[:, :5] = 0
    found = find_trouble(memory_data(framed))
    assert found.counts["constant pixels"] == "30 of 36"
    assert "30 of 36 pixels are the same" in " ".join(found.warnings)
    specks = np.zeros((300, 20, 20), dtype=np.uint8)
    specks[np.arange(300), RNG.integers(0, 20, 300), RNG.integers(0, 20, 300)] = RNG.integers(1, 256, 300)
    assert "99.8% of all pixels are black" in told(memory_data(specks))


def test_columns(tmp_path):
    x = RNG.normal(size=(400, 4))
    x[:, 1] = 3
    x[::40, 3] = -999
    rows = "\n".join(",".join(f"{v:.6f}" for v in row) for row in x)
    (tmp_path / "x.csv").write_text(f"a,b,c,d\n{rows}\n")
    found = describe_data(tmp_path / "x.csv")
    assert found["trouble"]["constant columns"] == 1
    words = " ".join(found["warnings"])
    assert "column 'b' is constant: leave it out." in words
    assert "column 'd' holds -999 10 times" in words
    assert "'a'" not in words


def test_whole_numbers_and_what_is_not_finite():
    assert "every value is a whole number" in told(memory_data(RNG.integers(0, 200, (300, 8)).astype(float)))
    data = memory_data(RNG.normal(size=(200, 3)))
    data.train.x[5, 1] = torch.nan
    data.train.x[7, :] = torch.inf
    assert "2 examples hold numbers that are not finite" in told(data)


def test_few_examples_and_rare_labels():
    y = np.array(["rare"] * 12 + ["common"] * 288)
    assert "'common' occurs" in told(memory_data(images(), y))
    assert "there are 64 training examples" in told(memory_data(images(80)))


def test_text_and_sound():
    texts = [f"line {i}" for i in range(200)]
    assert told(memory_data(texts)) == ""
    assert "3 characters that were lost" in told(memory_data([*texts, "\ufffd\ufffd", "a\ufffd"]))
    clips = tuple(torch.randn(50).clamp(-1, 1) * (i % 10 > 0) for i in range(300))
    parts = [Split(clips[i::3]) for i in range(3)]
    assert "30 of 300 clips are silent" in told(Data("x", "sound", *parts, rate=100))


def test_large_data_is_looked_at_in_part(monkeypatch):
    """A share of pairs is seen, and the share that makes trouble is as much smaller."""
    data = memory_data(images(2000))
    double = replace(data, train=Split(data.train.x.repeat(2, 1, 1, 1)[torch.randperm(3200)]))
    whole = find_trouble(double)
    monkeypatch.setattr(module, "LOOKED_AT", module._bytes(double) // 4)
    part = find_trouble(double)
    assert "looked at" not in whole.counts
    assert part.counts["looked at"] == "one example in 4"
    assert 0 < part.counts["copies"] < whole.counts["copies"]
    assert all(any("copies of another" in told for told in found.warnings) for found in (whole, part))


def test_trouble_is_told_before_the_first_step():
    events = []
    for model in ("independent", "made"):
        pangen.fit(model, images(80), steps=1, device="cpu", report=events.append, recipe=SMALL[model])
    before, *_ = [event for event in events if event.warnings]
    run = pangen.fit("independent", images(80), device="cpu")
    assert [event.step for event in events if event.warnings] == [0, 0]
    assert "there are 64 training examples" in before.warnings[0]
    assert run.card["trouble"] == list(before.warnings)


def test_tables():
    """Rows of few categories are alike by nature; a number that is mostly missing, or a stand-in, is not."""
    columns = (Column("kind", ("a", "b")), Column("size"), Column("age"), Column("still", points=(1.0,)))
    x = torch.randn(300, 4)
    x[:, 0], x[:, 3] = torch.arange(300) % 2, 1.0
    x[:200, 1] = torch.nan
    x[3::100, 2] = -999.0
    parts = [Split(x[i::3]) for i in range(3)]
    found = find_trouble(Data("x", "table", *parts, table=columns))
    assert found.counts["missing cells"] == "200 of 1200"
    words = " ".join(found.warnings)
    assert "column 'size' lacks 67% of its cells" in words
    assert "column 'age' holds -999 3 times" in words
    assert "column 'still' is constant" in words
    assert "copies" not in words
