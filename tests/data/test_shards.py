"""Archives of examples: what was put in comes out, where it lies; hostile ones do nothing."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

import pangen
from pangen.data import load_data, stored
from pangen.errors import PangenError

N = 60
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 4, 5), dtype=np.uint8)


def encoded(pixels, kind="png"):
    file = io.BytesIO()
    np.save(file, pixels) if kind == "npy" else Image.fromarray(pixels).save(file, kind, lossless=True)
    return file.getvalue()


def write(path, members, form=tarfile.PAX_FORMAT):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 0.5  # a fraction makes a header of its own
            tar.addfile(info, io.BytesIO(content))
    return path


def members_of(rows, kind="png", *, labels=True, captions=False):
    for i in rows:
        yield f"{i:03}.{kind}", encoded(PIXELS[i], kind)
        if labels:
            yield f"{i:03}.cls", str(i % 11).encode()
        if captions:
            yield f"{i:03}.txt", f" image\n{i} ".encode()


def everything(data):
    parts = [data.split(name).all() for name in ("train", "validation", "test")]
    place = {row.tobytes(): i for i, row in enumerate(PIXELS)}
    return {
        place[bytes(row[:1].numpy())]: label if isinstance(label, str) else int(label)
        for x, y in parts
        for row, label in zip(x.contiguous(), y if y is not None else [0] * len(x), strict=True)
    }


@pytest.mark.parametrize("on_disk", [True, False])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("kind", ["png", "webp", "npy"])
def test_examples_and_labels_come_out_as_they_went_in(tmp_path, kind, form, on_disk):
    write(tmp_path / "a" / "0.tar", members_of(range(40), kind), form)
    write(tmp_path / "a" / "1.tar", members_of(range(40, N), kind), form)
    data = load_data(tmp_path / "a", stored=on_disk)
    assert data.train.stored == on_disk
    assert data.shape == (3 if kind == "webp" else 1, 4, 5)  # that format knows no grey
    assert data.labels == tuple(map(str, range(11)))  # by number: 10 comes last
    assert everything(data) == {i: i % 11 for i in range(N)}


def test_captions_go_before_labels(tmp_path):
    write(tmp_path / "x.tar", members_of(range(N), captions=True))
    data = load_data(tmp_path / "x.tar", stored=True)
    assert everything(data) == {i: f"image {i}" for i in range(N)}
    assert data.labels == ()
    assert any("labels (.cls) of train are left out" in note for note in data.notes)


def test_names_of_any_length_and_folders_and_dots(tmp_path):
    long = "folder/" * 40
    write(tmp_path / "x.tar", ((f"{long}{i}.{ending}", encoded(PIXELS[i]) if ending == "png" else b"1" if i else b"0")
                               for i in range(N) for ending in ("png", "cls", "seg.png", "json")))  # fmt: skip
    data = load_data(tmp_path / "x.tar", stored=True)
    assert everything(data) == {i: int(i > 0) for i in range(N)}
    assert any(note.startswith(f"{2 * N} members of train are neither examples") for note in data.notes)


def test_splits_are_subfolders(tmp_path):
    for split, start, stop in [("train", 0, 40), ("val", 40, 50), ("test", 50, 60)]:
        write(tmp_path / split / "0.tar", members_of(range(start, stop), labels=False))
    data = load_data(tmp_path, stored=True)
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [40, 10, 10]
    assert torch.equal(data.train.all()[0][:, 0], torch.from_numpy(PIXELS[:40]))


def test_large_archives_stay_on_disk(tmp_path, monkeypatch):
    write(tmp_path / "x.tar", members_of(range(N)))
    for free, on_disk in [(4 * N * 20 - 1, True), (4 * N * 20, False)]:
        monkeypatch.setattr(stored, "free_memory", lambda free=free: free)
        assert load_data(tmp_path / "x.tar").train.stored == on_disk


def test_a_model_trains_on_them(tmp_path):
    write(tmp_path / "x.tar", members_of(range(N)))
    run = pangen.fit("vae", load_data(tmp_path / "x.tar", stored=True), steps=2, out=tmp_path / "run")
    assert run.codec.labels == tuple(map(str, range(11)))
    assert (
        pangen.load_data(run.recipe.data.name, **run.recipe.data.options).fingerprint
        == run.recipe.data.fingerprint
    )


def test_vectors(tmp_path):
    x = np.random.default_rng(0).normal(size=(N, 3))
    write(tmp_path / "x.tar", ((f"{i}.npy", encoded(x[i], "npy")) for i in range(N)))
    data = load_data(tmp_path / "x.tar", stored=True)
    assert data.modality == "vector"
    found = torch.cat([data.split(name).all()[0] for name in ("train", "validation", "test")])
    assert found.sort(0).values.tolist() == np.sort(x.astype(np.float32), 0).tolist()


def test_images_are_scaled(tmp_path):
    write(tmp_path / "x.tar", members_of(range(N)))
    assert load_data(tmp_path / "x.tar", stored=True, size=(8, 8)).shape == (1, 8, 8)


def test_bad_members_are_named_or_left_out(tmp_path):
    members = dict(members_of(range(N)))
    members["017.png"] = members["017.png"][:30]
    path = write(tmp_path / "x.tar", members.items())
    with pytest.raises(PangenError, match=r"x\.tar, member 017\.png cannot be read .*--skip-bad"):
        load_data(path, stored=True)
    data = load_data(path, stored=True, skip_bad=True)
    assert everything(data) == {i: i % 11 for i in range(N) if i != 17}
    assert "1 examples could not be read and were left out." in data.notes


@pytest.mark.parametrize("cut", [100, 3000, -10240])
def test_an_archive_that_is_cut_off_is_named(tmp_path, cut):
    path = write(tmp_path / "x.tar", members_of(range(N)))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(PangenError, match=r"x\.tar is damaged .*; make this archive again\.$"):
        load_data(path)


def test_an_archive_damaged_in_its_middle_is_named(tmp_path):
    """The reader of headers stops in silence there, which would lose examples."""
    path = write(tmp_path / "x.tar", members_of(range(N)), tarfile.USTAR_FORMAT)
    content = bytearray(path.read_bytes())
    at = content.index(b"030.png")
    content[at : at + 200] = b"\xff" * 200
    path.write_bytes(content)
    with pytest.raises(PangenError, match=r"x\.tar is damaged"):
        load_data(path)


def test_what_shrinks_later_is_told(tmp_path):
    path = write(tmp_path / "x.tar", members_of(range(N)))
    data = load_data(path, stored=True)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(PangenError, match="has become shorter since it was looked at"):
        data.train.all()


def claim(name, size, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info


HOSTILE = {
    "a size beyond the file": (claim("x.png", 2**40), "is damaged"),
    "a header of facts beyond all measure": (
        claim("x", 2**40, tarfile.XHDTYPE),
        "more than 67108864 bytes of facts",
    ),
    "a long name beyond all measure": (
        claim("x", 2**40, tarfile.GNUTYPE_LONGNAME),
        "more than 67108864 bytes of facts",
    ),
    "a negative size": (claim("x.png", -(2**20)), "is damaged"),
    "a negative header": (claim("x", -(2**20), tarfile.XHDTYPE), "is damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_claims_are_not_believed(tmp_path, name):
    info, told = HOSTILE[name]
    good = write(tmp_path / "x.tar", members_of(range(N))).read_bytes()
    end = max(i for i in range(0, len(good), 512) if any(good[i : i + 512])) + 512
    (tmp_path / "x.tar").write_bytes(good[:end] + info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(PangenError, match=rf"x\.tar .*{told}"):
        load_data(tmp_path / "x.tar")


def test_paths_and_links_lead_nowhere(tmp_path, monkeypatch):
    """Nothing is extracted: a member's name is a name."""
    link = claim("900.png", 0, tarfile.SYMTYPE)
    link.linkname = "/etc/hostname"
    device = claim("901.png", 0, tarfile.CHRTYPE)
    members = [(f"../../{name}", content) for name, content in members_of(range(30))]
    members += [(f"/tmp/{name}", content) for name, content in members_of(range(30, N))]
    path = write(tmp_path / "in" / "x.tar", [("", link), ("", device), *members])
    assert everything(load_data(path, stored=True)) == {i: i % 11 for i in range(N)}
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "x.tar"]


def npy(shape, kind="|u1", body=b"\0" * 20):
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    head += " " * (63 - (len(head) + 10) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + body


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (npy((2**40, 2**40)), "no array of"),
        (npy((4, 5), "|O"), "no array of"),
        (npy((4, 5), "<f4", bytes(80)), "save it as uint8"),
        (npy((4, 6), body=bytes(24)), r"is 4x6 and others 4x5"),
        (npy((20,)), "has shape"),
        (npy((1, 1, 4, 5)), "has shape"),
        (b"\x93NUMPY", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_odd_arrays_are_named(tmp_path, content, told):
    members = dict(members_of(range(N), "npy"))
    members["033.npy"] = content
    with pytest.raises(PangenError, match=f"033.*{told}"):
        load_data(write(tmp_path / "x.tar", members.items()))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda m: m.pop("020.cls"),
            r"member 020\.png: it has none, and others have one of \.cls.*--sort=name",
        ),
        (
            lambda m: [m.pop(k) for k in list(m) if k.endswith("cls") and k != "031.cls"],
            "it has one, and others have none",
        ),
        (lambda m: m.update({"020.cls": b" "}), r"020\.cls is empty"),
        (
            lambda m: m.update({"059.npy": encoded(PIXELS[0], "npy")}),
            r"059\.npy and 059\.png are two examples of one key",
        ),
        (lambda m: m.clear(), "holds no example for train"),
    ],
)
def test_what_does_not_belong_together_is_told(tmp_path, change, told):
    members = dict(members_of(range(N)))
    change(members)
    with pytest.raises(PangenError, match=told):
        load_data(write(tmp_path / "x.tar", sorted(members.items())))


def test_no_archive_at_all(tmp_path):
    for content in (b"", b"no archive" * 100):
        (tmp_path / "x.tar").write_bytes(content)
        with pytest.raises(PangenError, match=r"x\.tar is damaged"):
            load_data(tmp_path / "x.tar")
