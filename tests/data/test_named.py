"""Data by name: embedded sets, sets whose files the user keeps, the catalogue, and descriptions."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pangen.data import catalogue, describe_data, load_data
from pangen.data.known import KNOWN
from pangen.errors import PangenError
from pangen.registry import entries

SPLITS = ("train", "validation", "test")


def test_digits_are_scikit_learn_s_in_a_fixed_order():
    data = load_data("digits")
    assert [len(data.split(s)) for s in SPLITS] == [1297, 200, 300]
    assert (data.levels, data.labels, data.fingerprint) == (17, tuple("0123456789"), "92cec42bb626c1f4")
    ours = torch.cat([data.split(s).x for s in SPLITS]).flatten(1)
    theirs = torch.from_numpy(load_digits().data).to(torch.uint8)
    assert sorted(map(bytes, ours.numpy())) == sorted(map(bytes, theirs.numpy()))


def test_binary_digits_are_the_digits_thresholded():
    grey, binary = load_data("digits"), load_data("digits-binary")
    assert (binary.levels, binary.shape, binary.labels) == (2, (1, 8, 8), grey.labels)
    for split in SPLITS:
        assert torch.equal(binary.split(split).x == 1, grey.split(split).x >= 8)
        assert torch.equal(binary.split(split).y, grey.split(split).y)


# -- sets in PANGEN_DATA: tiny files in the real formats ---------------------------------------------


def idx(path: Path, x: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">HBB{x.ndim}I", 0, 8, x.ndim, *x.shape)
    path.write_bytes(gzip.compress(head + x.tobytes(), 1))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """50 200 training and 300 test images of 2x2 pixels, each pixel one of 0, 64, 255; a text of 10 000 characters."""
    rng = np.random.default_rng(0)
    for folder in ("mnist", "fashion_mnist"):
        for part, n in (("train", 50_200), ("t10k", 300)):
            x = rng.choice(np.array([0, 64, 255], np.uint8), (n, 2, 2))
            idx(tmp_path / folder / f"{part}-images-idx3-ubyte.gz", x)
            idx(tmp_path / folder / f"{part}-labels-idx1-ubyte.gz", (np.arange(n) % 10).astype(np.uint8))
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt").write_text("".join(chr(97 + i % 26) for i in range(10_000)))
    monkeypatch.setenv("PANGEN_DATA", str(tmp_path))
    return tmp_path


def test_mnist_is_split_in_its_order(home):
    for name in ("mnist", "fashion-mnist"):
        data = load_data(name)
        assert [len(data.split(s)) for s in SPLITS] == [50_000, 200, 300]
        assert (data.levels, len(data.labels), data.train.x.dtype) == (256, 10, torch.uint8)
        assert data.validation.y.tolist() == [i % 10 for i in range(50_000, 50_200)]


def test_binary_mnist_is_drawn_once_or_at_each_reading(home):
    grey, static, dynamic = (load_data(n) for n in ("mnist", "mnist-binary-static", "mnist-binary-dynamic"))
    assert static.levels == dynamic.levels == 2
    for split in SPLITS:
        x, value = static.split(split).x, grey.split(split).x
        assert set(x.unique().tolist()) == {0, 1}
        assert (x[value == 255] == 1).all()
        assert (x[value == 0] == 0).all()
    mean, n = static.train.x[grey.train.x == 64].double().mean(), int((grey.train.x == 64).sum())
    p = 64 / 255
    assert abs(float(mean) - p) < 5 * (p * (1 - p) / n) ** 0.5  # five standard deviations of a share
    assert load_data("mnist-binary-static").fingerprint == static.fingerprint
    assert dynamic.train.redraw
    assert torch.equal(dynamic.train.x, grey.train.x)
    one, other = (dynamic.train.take(torch.arange(500), torch.Generator().manual_seed(s))[0] for s in (0, 1))
    assert set(one.unique().tolist()) == {0, 1}
    assert not torch.equal(one, other)
    for split in ("validation", "test"):
        assert torch.equal(dynamic.split(split).x, static.split(split).x)
        assert not dynamic.split(split).redraw


def test_tinyshakespeare_tests_on_the_last_tenth(home):
    """9000 characters before it; validation is the last 450 of those."""
    text = (home / "tinyshakespeare/input.txt").read_text()
    data = load_data("tinyshakespeare", window=50)
    for split, low, high in (("train", 0, 8550), ("validation", 8550, 9000), ("test", 9000, 10_000)):
        assert "".join(data.split(split).x) == text[low:high]
    assert data.options == {"window": 50}
    assert load_data("tinyshakespeare").window == 64


# -- the real files, where there are some ------------------------------------------------------------


def test_the_real_mnist(local_data):
    local_data("mnist")
    data = load_data("mnist")
    assert data.fingerprint == "39b9608a44a82a7a"
    # the mean and standard deviation the field normalises by, of the 60 000
    x = torch.cat([data.train.x, data.validation.x]).float() / 255
    assert float(x.mean()) == pytest.approx(0.1307, abs=5e-5)
    assert float(x.std()) == pytest.approx(0.3081, abs=5e-5)
    assert data.train.y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


def test_the_real_fashion_mnist(local_data):
    local_data("fashion_mnist")
    data = load_data("fashion-mnist")
    assert [data.labels[i] for i in data.train.y[:3]] == ["Ankle boot", "T-shirt/top", "T-shirt/top"]
    assert torch.bincount(data.test.y).tolist() == [1000] * 10


def test_a_table_is_split_by_chance_and_bad_cells_are_named(home):
    """Eight tenths train, no row is lost, and a file that is no table says so in a sentence."""
    (home / "uci_regression").mkdir()
    path, rows = home / "uci_regression" / "kin40k.csv.gz", np.arange(300).reshape(100, 3)
    path.write_bytes(gzip.compress("\n".join(",".join(map(str, row)) for row in rows).encode()))
    data = load_data("uci-kin40k")
    assert [len(data.split(s)) for s in SPLITS] == [80, 10, 10]
    found = torch.cat([data.split(s).x for s in SPLITS])
    assert torch.equal(found[found[:, 0].argsort()], torch.from_numpy(rows).float())
    assert not torch.equal(found, torch.from_numpy(rows).float())
    path.write_bytes(gzip.compress(b"1,2\n3,oak\n"))
    with pytest.raises(PangenError, match=r"kin40k\.csv\.gz cannot be read .*oak"):
        load_data("uci-kin40k")


def test_the_real_cifar10_lossless_4k(local_data):
    local_data("cifar10_lossless_4k")
    data = load_data("cifar10-lossless-4k")
    assert [len(data.split(s)) for s in SPLITS] == [3250, 250, 500]
    assert [data.labels[i] for i in data.train.y[:4]] == ["frog", "truck", "truck", "deer"]
    x = torch.cat([data.split(s).x for s in SPLITS]).float() / 255
    # the means and deviations the field normalises by, of the 50 000
    assert x.mean((0, 2, 3)).tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.01)
    assert x.std((0, 2, 3)).tolist() == pytest.approx([0.2470, 0.2435, 0.2616], abs=0.01)


def test_the_real_olivetti_faces(local_data):
    local_data("olivetti_faces")
    data = load_data("olivetti-faces")
    assert [len(data.split(s)) for s in SPLITS] == [280, 40, 80]
    assert data.train.y[:8].tolist() == [0] * 7 + [1]
    x = torch.cat([data.split(s).x for s in SPLITS]).float()
    assert x.shape[1:] == (1, 64, 64)
    # images of one person are nearer to each other than to those of another
    apart = torch.cdist(data.test.x.flatten(1).float(), data.test.x.flatten(1).float())
    same = data.test.y[:, None] == data.test.y
    assert apart[same & (apart > 0)].mean() < 0.8 * apart[~same].mean()


def test_faces_that_cannot_be_read_say_so(home):
    (home / "olivetti_faces").mkdir()
    (home / "olivetti_faces" / "olivettifaces.mat").write_bytes(b"no matrix")
    with pytest.raises(PangenError, match=r"olivettifaces\.mat cannot be read"):
        load_data("olivetti-faces")


def test_the_real_tinyshakespeare(local_data):
    local_data("tinyshakespeare")
    data = load_data("tinyshakespeare")
    assert len(set("".join(data.train.x))) == 65
    assert data.test.x[0].startswith("?\n\nGREMIO:")  # where the usual validation split begins
    assert sum(map(len, data.test.x)) == 111_540 // 64 * 64


# -- catalogue and descriptions ----------------------------------------------------------------------


def test_the_catalogue_lists_every_set_without_torch(tmp_path):
    code = (
        "import sys, json; from pangen.data import catalogue; print(json.dumps(catalogue())); "
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PANGEN_DATA": str(tmp_path)},
    )
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert set(rows) == set(KNOWN)
    assert rows["digits"]["where"] == "in the package"
    looked = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    assert rows["mnist"]["where"] == f"not found: looked for {looked}"


def test_the_catalogue_says_where_files_are(home):
    where = {row["name"]: row["where"] for row in catalogue()}
    assert where["fashion-mnist"] == str(home / "fashion_mnist")


@pytest.mark.parametrize("name", [k.name for k in KNOWN.values() if k.source != "files"])
def test_descriptions_agree_with_the_catalogue(name):
    facts = describe_data(name)
    assert json.loads(json.dumps(facts)) == facts
    binary = facts["modality"] == "image" and facts["levels"] == 2
    kind = (
        "binary images"
        if binary
        else {"image": "images", "vector": "vectors", "table": "tables"}.get(
            facts["modality"], facts["modality"]
        )
    )
    kind = "pairs of texts" if "source lengths" in facts else kind
    assert KNOWN[name].kind == kind
    spaces = {
        "images": {"grey and colour images"},
        "series": {"series", "series of one column"},
        "pairs of texts": {"pairs of texts", "text"},
    }.get(kind, {kind})
    assert facts["models"] == [e.name for e in entries().values() if spaces & set(e.spaces)]
    assert ("entropy" in facts) == (KNOWN[name].source == "known truth")


def test_a_description_counts_what_is_there(tmp_path):
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    np.savez(tmp_path / "x.npz", x=x, y=["a"] * 5 + ["b"] * 15)
    facts = describe_data(tmp_path / "x.npz", seed=2)
    assert facts["splits"] == {"train": 16, "validation": 2, "test": 2}
    assert facts["labels"] == {"a": 5, "b": 15}
    assert facts["range"] == [0.0, 39.0]
    assert facts["options"] == {"seed": 2}
    assert facts["shape"] == [2]
