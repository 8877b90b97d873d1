"""Every mistake in a name, a file or an option is one sentence that names it."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pangen.data import load_data
from pangen.errors import PangenError

X = np.random.default_rng(0).normal(size=(20, 3))
TABLE = "\n".join(f"{a:.3f},{b:.3f}" for a, b, _ in X)


def png(height: int = 4, width: int = 4, kind: type = np.uint8) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(height * width, dtype=kind).reshape(height, width)).save(file, "png")
    return file.getvalue()


def npy(x: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def many(folder: str, n: int = 12) -> dict[str, bytes]:
    return {f"{folder}/{i}.png": png() for i in range(n)}


# name of a case: files, what to load, options, words of the sentence
CASES: dict[str, tuple[dict[str, bytes | str], str, dict[str, object], str]] = {
    "misspelt name": ({}, "digts", {}, "unknown 'digts' 'digits'"),
    "strange name": ({}, "qqqqqqqq", {}, "unknown 'qqqqqqqq' `pangen data`"),
    "no such path": ({}, "./not/here", {}, "no file or folder not/here check"),
    "no such file": ({}, "missing.csv", {}, "no file or folder missing.csv check"),
    "memory": ({}, "memory", {}, "memory arrays again"),
    "empty folder": ({"f/.keep": ""}, "f", {}, "f no image empty .png"),
    "no images": ({"f/a.bmp": "BM", "f/b.txt": "b"}, "f", {}, "f no image 2 files .png"),
    "truncated image": ({**many("f"), "f/5.png": png()[:-30]}, "f", {}, "f/5.png cannot be read --skip-bad"),
    "no image at all": ({**many("f"), "f/5.png": b"hello"}, "f", {}, "f/5.png no image format --skip-bad"),
    "empty image": ({**many("f"), "f/5.png": b""}, "f", {}, "f/5.png --skip-bad"),
    "all images bad": ({f"f/{i}.png": b"" for i in range(12)}, "f", {"skip_bad": True}, "f 0 examples 10"),
    "mixed sizes": ({**many("f"), "f/7.png": png(4, 5)}, "f", {}, "f/0.png 4x4 f/7.png 4x5 --size"),
    "sixteen bits": ({**many("f"), "f/7.png": png(kind=np.uint16)}, "f", {}, "f/7.png 8 bits convert"),
    "few images": (many("f", 9), "f", {}, "f 9 examples 10"),
    "one class": (many("f/only"), "f", {}, "one subfolder one class f/only"),
    "loose images": ({**many("f/a"), **many("f/b"), "f/loose.png": png()}, "f", {}, "f loose.png subfolders"),
    "beside splits": ({**many("f/train"), **many("f/test"), **many("f/extra")}, "f", {}, "f extra/0.png splits"),
    "two of a split": ({**many("f/train"), **many("f/val"), **many("f/valid")}, "f", {}, "f two validation"),
    "label unseen": (
        {**many("f/train/a"), **many("f/train/b"), **many("f/test/a"), **many("f/test/c")}, "f", {},
        "f 'c' test never train",
    ),
    "half labelled": ({**many("f/train/a"), **many("f/train/b"), **many("f/test")}, "f", {}, "train labels test none"),
    "one image": ({"a.png": png()}, "a.png", {}, "a.png one image folder"),
    "strange file": ({"a.pdf": "%PDF"}, "a.pdf", {}, "a.pdf .npy .csv"),
    "NaN": ({"a.npy": npy(np.where(X[7, 1] == X, np.nan, X))}, "a.npy", {}, "a.npy NaN row 7 column 1"),
    "infinite": ({"a.npy": npy(np.where(X[7, 1] == X, np.inf, X))}, "a.npy", {}, "a.npy infinite row 7 column 1"),
    "objects": ({"a.npy": npy(np.array([{"a": 1}] * 20))}, "a.npy", {}, "a.npy Python objects safe"),
    "pickle": ({"a.npy": pickle.dumps(X)}, "a.npy", {}, "a.npy no .npy file"),
    "empty npy": ({"a.npy": b""}, "a.npy", {}, "a.npy no .npy file"),
    "truncated npy": ({"a.npy": npy(X)[:-40]}, "a.npy", {}, "a.npy cannot be read save it again"),
    "truncated npz": ({"a.npz": npz(x=X, y=X)[:-40]}, "a.npz", {}, "a.npz cannot be read save it again"),
    "npy called npz": ({"a.npz": npy(X)}, "a.npz", {}, "a.npz no .npz file"),
    "objects in npz": ({"a.npz": npz(x=X, y=np.array([{}] * 20))}, "a.npz", {}, "a.npz Python objects"),
    "unknown array": ({"a.npz": npz(x=X, z=X)}, "a.npz", {}, "a.npz 'z' x, y, x_test"),
    "labels alone": ({"a.npz": npz(x=X, y_test=X)}, "a.npz", {}, "a.npz 'x_test' 'y_test'"),
    "no training": ({"a.npz": npz(x_test=X, y_test=np.arange(20) % 2)}, "a.npz", {}, "a.npz 'x'"),
    "two for train": ({"a.npz": npz(x=X, x_train=X)}, "a.npz", {}, "a.npz two arrays train"),
    "unlike splits": ({"a.npz": npz(x=X, x_test=X[:, :2])}, "a.npz", {}, "a.npz test (2,) train (3,)"),
    "one class in npz": ({"a.npz": npz(x=X, y=np.ones(20, int))}, "a.npz", {}, "a.npz '1' one class"),
    "text and numbers": ({"a.csv": f"h,w\n{TABLE}\n1.5,red\n"}, "a.csv", {}, "a.csv 'w' numbers and text 'red' line 22"),
    "text that varies": (
        {"a.csv": "h,w\n" + "".join(f"1.5,n{i}\n" for i in range(101))}, "a.csv", {}, "a.csv 'w' 101 texts 'n0' line 2 100"
    ),
    "time column": ({"a.csv": "t,w\n" + "2020-01-01,3\n" * 20}, "a.csv", {}, "a.csv 't' times line 2 --series --window"),
    "column of gaps": ({"a.csv": "h,w\n" + "1.5,?\n" * 20}, "a.csv", {}, "a.csv 'w' nothing but gaps"),
    "gap in target": ({"a.csv": f"h,w\n{TABLE}\n1,NA"}, "a.csv", {"target": "w"}, "a.csv 'w' gap line 22"),
    "infinite cell": ({"a.csv": f"h,w\n{TABLE}\ninf,3"}, "a.csv", {}, "a.csv 'h' infinite line 22"),
    "no header": ({"a.csv": f"{TABLE}\n1.5,red"}, "a.csv", {}, "a.csv '1' text line 21"),
    "short row": ({"a.csv": f"h,w\n{TABLE}\n1.5"}, "a.csv", {}, "a.csv 1 cells line 22 2"),
    "empty table": ({"a.csv": "h,w\n"}, "a.csv", {}, "a.csv no rows"),
    "empty csv": ({"a.csv": ""}, "a.csv", {}, "a.csv no rows"),
    "misspelt target": ({"a.csv": f"height,w\n{TABLE}"}, "a.csv", {"target": "heigt"}, "a.csv 'heigt' 'height'"),
    "target too far": ({"a.csv": TABLE}, "a.csv", {"target": "2"}, "a.csv 2 columns no column 2"),
    "two targets": ({"a.csv": f"w,w\n{TABLE}"}, "a.csv", {"target": "w"}, "a.csv 2 columns 'w' index"),
    "target alone": ({"a.csv": "w\n" + "a\nb\n" * 9}, "a.csv", {"target": "w"}, "a.csv no column beside 'w'"),
    "real target": ({"a.csv": f"h,w\n{TABLE}"}, "a.csv", {"target": "w"}, "a.csv 'w' not whole label"),
    "endless target": (
        {"a.csv": "h,w\n" + "".join(f"1.5,n{i}\n" for i in range(101))}, "a.csv", {"target": "w"},
        "a.csv 'w' 101 values 100",
    ),
    "one-class target": ({"a.csv": "h,w\n" + "1.5,a\n2,a\n" * 9}, "a.csv", {"target": "w"}, "a.csv 'a' one class"),
    "csv not UTF-8": ({"a.csv": b"h,w\n\xff,2\n"}, "a.csv", {}, "a.csv UTF-8 0xff offset 4"),
    "few rows": ({"a.csv": "1,2\n3,4\n"}, "a.csv", {}, "a.csv 2 examples 10"),
    "text not UTF-8": ({"a.txt": b"caf\xe9 " * 200}, "a.txt", {}, "a.txt UTF-8 0xe9 offset 3"),
    "short text": ({"a.txt": "word " * 100}, "a.txt", {}, "a.txt 7 windows 64 characters 10"),
    "empty text": ({"a.txt": ""}, "a.txt", {"lines": True}, "a.txt 0 examples 10"),
    "lines and window": ({"a.txt": "a\n" * 99}, "a.txt", {"lines": True, "window": 64}, "lines window leave out"),
    "no window": ({"a.txt": "a" * 999}, "a.txt", {"window": 0}, "window 0 at least 1"),
    "no size": (many("f"), "f", {"size": (4, 0)}, "(4, 0) height width"),
    "option of another kind": (many("f"), "f", {"lines": True}, "f 'lines' size, skip_bad"),
    "option of no kind": ({}, "digits", {"seed": 3}, "'digits' 'seed' fixed"),
    "array with a size": ({"a.npy": npy(X)}, "a.npy", {"size": (4, 4)}, "a.npy 'size' series"),
    "set that is absent": ({}, "mnist", {}, "'mnist' train-images-idx3-ubyte.gz PANGEN_DATA"),
    "damaged set": (
        {f"home/mnist/{f}-{i}-ubyte.gz": b"\x1f\x8bnonsense" for f in ("train", "t10k") for i in ("images-idx3", "labels-idx1")},
        "mnist", {}, "train-images-idx3-ubyte.gz cannot be read again",
    ),
    "short set": ({"home/tinyshakespeare/input.txt": "a" * 900}, "tinyshakespeare", {}, "input.txt windows 64 validation"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_sentence(case, tmp_path, monkeypatch):
    files, name, options, words = CASES[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PANGEN_DATA", str(tmp_path / "home"))
    for path, content in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(PangenError) as raised:
        load_data(name, **options)
    message = str(raised.value)
    assert "\n" not in message
    assert message[-1] in ".?"
    for part in words.split():
        assert part in message, message


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("a" * 999)
    denied = PermissionError(13, "Permission denied", str(path))
    monkeypatch.setattr(Path, "read_bytes", lambda self: (_ for _ in ()).throw(denied))
    with pytest.raises(PangenError, match=r"a\.txt cannot be read: Permission denied\.$"):
        load_data(path)
