"""Data larger than memory: what stays on disk gives the same numbers as what is in memory, in an order that needs none."""

from __future__ import annotations

import ctypes
import json
import re
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pangen
from pangen.data import describe_data, load_data, memory_data, stored
from pangen.data.ahead import Ahead
from pangen.data.arrays import Mapped
from pangen.data.batches import Batches
from pangen.data.dataset import Split
from pangen.data.order import BLOCK, BLOCKS, Nearby, Shuffled, order_of
from pangen.errors import PangenError

N = 2000
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 4, 5), dtype=np.uint8)


@pytest.fixture
def file(tmp_path):
    np.save(tmp_path / "x.npy", PIXELS)
    return tmp_path / "x.npy"


@pytest.fixture
def little_memory(monkeypatch):
    """A machine whose free memory is soon too small for a data set, though not for a model."""
    monkeypatch.setattr(stored, "free_memory", lambda: 4 * 10_000)


def rows(x):
    return [bytes(row.numpy()) for row in x.contiguous()]


# the order


@pytest.mark.parametrize("n", [1, 3, 64, 65, 100, 1000])
def test_each_epoch_reads_each_example_once_in_an_order_of_its_own(n):
    order = Nearby(n, 3, block=4, blocks=5)
    first, second = order.at(0, 0, n), order.at(1, 0, n)
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(n))
    if n >= 64:
        assert not torch.equal(first, second)
        assert not torch.equal(first, Nearby(n, 4, block=4, blocks=5).at(0, 0, n))


def test_a_position_alone_says_what_comes():
    """Whatever was asked for before: there is no state."""
    whole = Nearby(1000, 0, block=16, blocks=4).at(2, 0, 1000)
    order = Nearby(1000, 0, block=16, blocks=4)
    for start, stop in [(990, 1000), (10, 200), (60, 68), (0, 1000), (500, 500)]:
        assert torch.equal(order.at(2, start, stop), whole[start:stop])
        order.at(1, 7, 9)


def test_what_is_read_for_a_while_lies_in_few_stretches():
    """And they are not the same ones, nor neighbours, in the next group: a sorted file comes well mixed."""
    n, group = 100 * BLOCK * BLOCKS, BLOCK * BLOCKS
    order = Nearby(n, 0)
    read = order.at(0, 3 * group, 4 * group)
    blocks = torch.div(read, BLOCK, rounding_mode="floor").unique()
    assert len(blocks) == BLOCKS
    assert blocks.diff().double().mean() > BLOCKS / 2
    batch = order.at(0, 3 * group, 3 * group + 128)
    assert len(torch.div(batch, BLOCK, rounding_mode="floor").unique()) > BLOCKS / 2


def test_data_in_memory_keep_their_one_permutation():
    from pangen.rng import generator

    expected = torch.randperm(50, generator=generator("cpu", "order", 7, 2))
    assert torch.equal(Shuffled(50, 7).at(2, 10, 20), expected[10:20])


# examples


def test_stored_examples_are_those_of_the_file(file):
    data = load_data(file, stored=True)
    assert data.train.stored
    assert not data.validation.stored
    assert not data.test.stored
    assert (len(data.train), len(data.validation), len(data.test)) == (1600, 200, 200)
    assert data.shape == (1, 4, 5)
    assert data.size == 20
    assert data.options == {"stored": True}
    parts = [rows(data.split(name).all()[0]) for name in ("train", "validation", "test")]
    assert sorted(row for part in parts for row in part) == sorted(row.tobytes() for row in PIXELS)
    kept = set(parts[0])
    assert parts[0] == [row.tobytes() for row in PIXELS if row.tobytes() in kept]  # in the order of the file


def test_held_out_examples_come_from_everywhere_and_are_chosen_by_the_seed(file):
    place = {row.tobytes(): i for i, row in enumerate(PIXELS)}
    found = [[place[row] for row in rows(load_data(file, stored=True, seed=s).test.x)] for s in (0, 0, 1)]
    assert found[0] == found[1]
    assert set(found[0]) != set(found[2])
    assert np.histogram(found[0], 4, (0, N))[0].min() > 30


def test_of_a_series_the_end_is_held_out(file):
    data = load_data(file, stored=True, series=True)
    x = torch.cat([data.train.all()[0], data.validation.x, data.test.x])
    assert torch.equal(x[:, 0], torch.from_numpy(PIXELS))


def test_views_are_those_of_a_tensor(file):
    train = load_data(file, stored=True).train
    x, index = train.all()[0], torch.tensor([5, 0, 1599, 5])
    assert torch.equal(train.x[index], x[index])
    assert torch.equal(train.first(10).all()[0], x[:10])
    assert torch.equal(train.x[3:100:7][torch.arange(3)], x[3:100:7][:3])
    assert len(train.x[3:100:7]) == len(x[3:100:7])


def test_training_on_disk_equals_training_in_memory_to_the_bit(file):
    """Given the same order: batches are the same, and so are weights."""
    data = load_data(file, stored=True)
    codec = pangen.fit("vae", data, steps=1).codec
    disk = Batches(data.train, codec, 64, 5, "cpu")
    memory = Batches(Split(*data.train.all()), codec, 64, 5, "cpu")
    memory._order = disk._order
    for step in (0, 24, 25, 40):
        assert torch.equal(disk[step].x, memory[step].x)
    assert torch.equal(disk.first(40).x, memory.first(40).x)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_what_the_next_step_needs_is_read_while_this_one_is_computed(file, monkeypatch, accumulate):
    """By another thread; whichever step is asked for, it gets its own examples."""
    data, readers, read = load_data(file, stored=True), [], Mapped.read
    codec = pangen.fit("vae", data, steps=1).codec

    def noted(self, rows):
        readers.append(threading.current_thread())
        return read(self, rows)

    monkeypatch.setattr(Mapped, "read", noted)
    batches = Batches(data.train, codec, 30, 0, "cpu")
    for step, own in ((0, accumulate), (1, 0), (2, 0), (7, accumulate), (8, 0)):
        before = len(readers)
        pieces = batches.pieces(step, accumulate)
        expected = codec.encode(data.train.x[batches.index(step)]).x
        assert torch.equal(torch.cat([piece.batch.x for piece in pieces]), expected)
        here = [reader is threading.main_thread() for reader in readers[before:]]
        assert sum(here) == own + 1  # and the expected


def test_what_cannot_be_read_ahead_is_told_when_it_is_needed():
    """And never, where nobody asks for it."""

    def read(index):
        if index[0] == 2:
            raise PangenError("example 2 is damaged")
        return 10 * index

    ahead, indices = Ahead(read), torch.arange(4)[:, None]
    ahead.begin(indices[1:3])
    assert ahead(indices[1]) == 10
    with pytest.raises(PangenError, match="example 2"):
        ahead(indices[2])
    ahead.begin(indices[2:3])
    assert ahead(indices[3]) == 30
    assert not ahead.coming


def test_a_resumed_training_equals_an_uninterrupted_one(file, tmp_path, monkeypatch):
    from pangen.training import fit as training

    how = {"steps": 12, "recipe": {"training.batch": 300, "model.network": "mlp"}}  # over two epochs
    whole = pangen.fit("vae", load_data(file, stored=True), **how)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(training, "CHECKPOINT_SHARE", 1e9)

    def stop(event):
        if event.step == 7:
            raise KeyError

    with pytest.raises(KeyError):
        pangen.fit("vae", load_data(file, stored=True), out=tmp_path / "run", report=stop, **how)
    again = pangen.fit("vae", load_data(file, stored=True), out=tmp_path / "run", resume=True)
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[key]), key


def test_a_run_is_resumed_and_judged_where_its_examples_were(file, tmp_path, monkeypatch):
    """As free memory comes and goes; what was held out must not be trained on."""
    run = pangen.fit("vae", load_data(file, stored=True), steps=1, out=tmp_path / "run")
    with pytest.raises(
        PangenError, match=r"were on disk .* are in memory here, with other splits: add --stored"
    ):
        pangen.fit("vae", file, out=run.path, resume=True)
    run = pangen.fit("vae", file, steps=1, out=tmp_path / "other")
    monkeypatch.setattr(stored, "free_memory", lambda: 4 * 10_000)
    with pytest.raises(PangenError, match=r"were in memory .* are on disk here.* free some memory"):
        pangen.evaluate(run)


# what is large


def test_a_large_file_stays_on_disk_and_says_so(file, little_memory):
    data = load_data(file)
    assert data.train.stored
    assert data.options == {"stored": True}  # a machine with more memory finds the same splits
    assert "the 1,600 training examples stay on disk: " in data.notes[-1]
    assert load_data(file, **data.options).fingerprint == data.fingerprint


def test_a_small_file_is_read_as_ever(file):
    data = load_data(file)
    assert not data.train.stored
    assert data.options == {}
    assert data.fingerprint == memory_data(PIXELS).fingerprint
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch's, that the map cannot be written to
        assert memory_data(np.load(file, mmap_mode="r")).fingerprint == data.fingerprint


def test_a_training_on_a_large_file_holds_little_of_it(tmp_path, monkeypatch):
    """Of 400 MB, by the memory that no file stands behind; the file itself is empty, and takes no room."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("this system does not tell what a process holds")

    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)

    def held():
        trim(0)  # what is freed may stay with the process
        return int(re.search(r"RssAnon:\s+(\d+) kB", status.read_text())[1]) * 1024

    path, how = (
        tmp_path / "x.npy",
        {"steps": 2, "recipe": {"model.network": "mlp", "training.validations": 1}},
    )
    np.lib.format.open_memmap(path, "w+", np.uint8, (500_000, 28, 28))
    pangen.fit("vae", np.zeros((100, 28, 28), np.uint8), **how)  # what a first training brings along
    monkeypatch.setattr(stored, "free_memory", lambda: 4 * 390_000_000)
    before = held()
    data = load_data(path)
    pangen.fit("vae", data, **how)
    assert data.train.stored
    assert held() - before < 150_000_000


def test_a_large_map_of_numpy_stays_on_disk(file, little_memory):
    labels = np.arange(N) % 3
    data = memory_data(np.load(file, mmap_mode="r"), labels)
    assert data.train.stored
    assert data.labels == ("0", "1", "2")
    place = {row.tobytes(): i for i, row in enumerate(PIXELS)}
    for split in (data.train, data.test):
        x, y = split.take(torch.arange(20))
        assert [place[row] % 3 for row in rows(x)] == y.tolist()
    assert not memory_data(PIXELS).train.stored  # what is in memory already stays there


def test_held_out_splits_and_the_sample_are_bounded(file, monkeypatch):
    monkeypatch.setattr(stored, "HELD", 50)
    data = load_data(file, stored=True)
    assert (len(data.train), len(data.validation), len(data.test)) == (1900, 50, 50)
    sample = data.train.in_memory()
    assert len(sample) == 50
    assert data.train.places([0, 49]) == [0, 1862]
    assert torch.equal(sample.x[49], data.train.x[torch.tensor([1862])][0])
    monkeypatch.setattr(stored, "HELD_BYTES", 1)  # as of large images
    monkeypatch.setattr(stored, "HELD", 10_000)
    assert len(load_data(file, stored=True).train.in_memory()) == 100


def test_what_takes_all_examples_is_refused_where_they_do_not_fit(file, monkeypatch):
    data = load_data(file, stored=True)
    pangen.fit("independent", data)  # it fits
    monkeypatch.setattr("pangen.memory.free_memory", lambda device=None: 10_000)
    with pytest.raises(
        PangenError, match=r"all 1,600 training examples .* at once need .*are free; take a model"
    ):
        data.train.all()
    with pytest.raises(PangenError, match=r"at once need .* take a model that is trained by steps"):
        pangen.fit("independent", data)


def test_the_fingerprint_covers_size_and_sample(file, tmp_path):
    first = load_data(file, stored=True).fingerprint
    np.save(tmp_path / "y.npy", PIXELS)
    assert load_data(tmp_path / "y.npy", stored=True).fingerprint == first  # content alone, not the name
    np.save(file, PIXELS[:-1])
    assert load_data(file, stored=True).fingerprint != first
    np.save(file, 255 - PIXELS)
    assert load_data(file, stored=True).fingerprint != first


def test_black_and_white_is_told_by_the_sample_and_held_to(file, monkeypatch):
    x = np.where(PIXELS > 128, 255, 0).astype(np.uint8)
    np.save(file, x)
    data = load_data(file, stored=True)
    assert data.levels == 2
    assert set(data.train.all()[0].unique().tolist()) == {0, 1}
    monkeypatch.setattr(stored, "HELD", 20)
    seen = data.train.x.rows(load_data(file, stored=True).train.x.seen).tolist()
    odd = next(i for i in range(N) if i not in seen and i not in data.train.x.left_out.tolist() and i > 100)
    x[odd, 1, 1] = 7
    np.save(file, x)
    data = load_data(file, stored=True)
    with pytest.raises(
        PangenError, match=rf"grey pixels in example {odd} .* the 20 examples that were looked"
    ):
        data.train.all()


def test_vectors_are_checked_when_they_are_read(file, monkeypatch):
    monkeypatch.setattr(stored, "HELD", 20)
    x = np.random.default_rng(0).normal(3.0, 2.0, (N, 3))
    np.save(file, x)
    data = load_data(file, stored=True)
    assert data.modality == "vector"
    run = pangen.fit("realnvp", data, steps=2)
    assert run.codec.mean == pytest.approx(data.train.in_memory().x.mean(0).tolist())
    bad = int(data.train.x.rows(torch.tensor([1])))
    assert 1 not in data.train.x.seen
    for value, told in [(np.nan, "NaN"), (1e300, "1e.300")]:
        x[bad, 2] = value
        np.save(file, x)
        with pytest.raises(PangenError, match=f"holds {told} at row {bad}, column 2"):
            load_data(file, stored=True).train.all()


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.zeros((20, 3, 3), np.float32), "images of type float32; save them as uint8"),
        (np.zeros(20), "has shape"),
        (np.zeros((20, 3), complex), "give real numbers"),
        (np.zeros((9, 3, 3), np.uint8), "holds 9 examples; at least 10"),
        (np.zeros((20, 3, 4, 3), np.uint8), "reads as"),
    ],
)
def test_odd_arrays_are_refused_in_a_sentence(tmp_path, array, told):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(PangenError, match=told):
        load_data(tmp_path / "x.npy", stored=True)


def test_a_file_that_is_cut_off_or_holds_objects_is_refused(file, tmp_path):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(PangenError, match=r"x\.npy cannot be read"):
        load_data(file, stored=True)
    np.save(file, np.array([{}] * 20))
    with pytest.raises(PangenError, match="Python objects"):
        load_data(file, stored=True)


def test_maps_of_any_order_and_parts_of_maps(file, monkeypatch):
    monkeypatch.setattr("pangen.data.arrays.RENEWED", 1)  # at each reading
    columns = np.asfortranarray(PIXELS.reshape(N, 20).astype(np.float64))
    np.save(file, columns)
    assert np.load(file, mmap_mode="r").flags.f_contiguous
    for mode in ("r", "c"):
        whole = Mapped(np.load(file, mmap_mode=mode), "x")
        part = Mapped(np.load(file, mmap_mode=mode)[100:], "x")
        assert np.array_equal(whole.read(np.array([105, 3])), columns[[105, 3]])
        assert np.array_equal(part.read(np.array([5, 0])), columns[[105, 100]])


def test_a_file_that_is_cut_off_later_is_told(file):
    data = load_data(file, stored=True)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(PangenError, match=r"x\.npy has been cut off since it was looked at"):
        data.train.all()


def test_windows_and_other_kinds_are_not_stored(file, tmp_path):
    with pytest.raises(PangenError, match="leave out one of 'stored' and 'window'"):
        load_data(file, stored=True, window=5, series=True)
    (tmp_path / "x.csv").write_text("a,b\n" + "1,2\n" * 20)
    with pytest.raises(PangenError, match="does not take the option 'stored'"):
        load_data(tmp_path / "x.csv", stored=True)


# folders


def folder_of(tmp_path, n=60, colour=()):
    for i in range(n):
        path = tmp_path / "images" / f"class {i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(PIXELS[i])
        (image.convert("RGB") if i in colour else image).save(path)
    return tmp_path / "images"


def test_a_folder_decoded_when_asked_equals_a_folder_in_memory(tmp_path):
    folder = folder_of(tmp_path, colour=(7,))
    disk, memory = load_data(folder, stored=True), load_data(folder)
    assert disk.shape == memory.shape == (3, 4, 5)
    assert disk.labels == memory.labels == ("class 0", "class 1")
    every = [
        sorted(
            (row, label)
            for name in ("train", "validation", "test")
            for x, y in [data.split(name).all()]
            for row, label in zip(rows(x), y.tolist(), strict=True)
        )
        for data in (disk, memory)
    ]
    assert every[0] == every[1]


def test_a_large_folder_is_decoded_when_asked_for(tmp_path, monkeypatch):
    folder = folder_of(tmp_path)
    monkeypatch.setattr(stored, "free_memory", lambda: 4 * 60 * 20 - 1)
    assert load_data(folder).train.stored
    monkeypatch.setattr(stored, "free_memory", lambda: 4 * 60 * 20)
    assert not load_data(folder).train.stored


def test_bad_images_of_a_stored_folder_are_named_or_left_out(tmp_path, monkeypatch):
    folder = folder_of(tmp_path)
    bad = folder / "class 1" / "31.png"
    bad.write_bytes(bad.read_bytes()[:40])
    with pytest.raises(PangenError, match=r"31\.png cannot be read .*--skip-bad"):
        load_data(folder, stored=True)
    data = load_data(folder, stored=True, skip_bad=True)
    assert len(data.train) + len(data.validation) + len(data.test) == 59
    assert "1 images could not be read and were left out." in data.notes


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.zeros((4, 6), np.uint8), r"30\.png is 4x6 and others 4x5 .*--size 4x5"),
        (np.zeros((4, 5, 3), np.uint8), r"30\.png is in colour.* 3 images .* first are grey"),
    ],
)
def test_an_image_unlike_those_looked_at_is_named(tmp_path, monkeypatch, image, told):
    folder = folder_of(tmp_path)
    Image.fromarray(image).save(folder / "class 0" / "30.png")
    monkeypatch.setattr("pangen.data.decoded.PROBED", 3)
    with pytest.raises(PangenError, match=told):
        load_data(folder, stored=True).train.all()


def test_splits_and_captions_of_a_stored_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "HELD", 15)
    for split, start, stop in [("train", 0, 40), ("val", 40, 50), ("test", 50, 80)]:
        (tmp_path / split).mkdir()
        for i in range(start, stop):
            Image.fromarray(PIXELS[i]).save(tmp_path / split / f"{i}.png")
            (tmp_path / split / f"{i}.txt").write_text(f"image {i}")
    data = load_data(tmp_path, stored=True)
    assert (len(data.train), len(data.validation), len(data.test)) == (40, 10, 15)
    assert any("test is 15 of its 30 examples" in note for note in data.notes)
    x, y = data.train.all()
    assert torch.equal(x[:, 0], torch.from_numpy(PIXELS[:40]))
    assert y == tuple(f"image {i}" for i in range(40))
    assert [int(text.split()[1]) for text in data.test.y] == list(range(50, 80, 2))
    run = pangen.fit("edm", data, steps=1, recipe={"model.width": 8})
    batch = Batches(data.train, run.codec, 4, 0, "cpu")[0]
    assert torch.equal(
        batch.y, Batches(Split(x, y), run.codec, 4, 0, "cpu").take(order_of(40, 0, stored=True).at(0, 0, 4)).y
    )


# the verbs


def test_every_verb_works_on_stored_data(tmp_path, quick_features):
    folder, out = folder_of(tmp_path, 300), tmp_path / "run"
    data = load_data(folder, stored=True)
    run = pangen.fit("vae", data, out=out, steps=4, recipe={"model.network": "mlp"})
    result = pangen.evaluate(run, samples=50)
    assert result["fidelity"]["frechet"]["value"] > 0
    assert result["near_copies"]["value"] >= 0
    found = describe_data(data)
    assert found["splits"] == {"train": 240, "validation": 30, "test": 30}
    assert found["range"] == [0, 255]
    assert sum(found["labels"].values()) == 300
    assert json.loads((out / "recipe.json").read_text())["data"]["options"] == {"stored": True}
    coder = pangen.fit("vqvae", data, conditional=False, steps=2, out=tmp_path / "coder")
    assert pangen.fit("gpt", f"latents:{coder.path}", steps=2).sample(2).shape == (2, 1, 4, 5)


def test_from_the_command_line(file, capsys):
    from pangen.cli.main import main

    assert main(["data", str(file), "--stored", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["options"] == {"stored": True}
    assert any("stay on disk" in note for note in found["notes"])
