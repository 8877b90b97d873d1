"""Lossless compression: files come back byte for byte, at the size that the likelihood says, or not at all."""

from __future__ import annotations

import io
import json
import math
import struct
import zlib
from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import pangen
from pangen.compression import archive, bits_back, container, kinds, sizes
from pangen.compression.coder import Reader, Stack, Writer, code_levels, pop_levels, push_levels, table
from pangen.compression.tokens import ROWS, segments
from pangen.data.load import load_data
from pangen.likelihoods import Normal, likelihood
from pangen.space import Space

pytest.importorskip("constriction")

TRAINING = {"training.validations": 1}
TINY = {
    "gpt": {"width": 8, "depth": 1, "heads": 2},
    "rnn": {"width": 8, "embedding": 4},
    "made": {"width": 8, "depth": 0},
    "nade": {"width": 8},
    "pixelcnn": {"channels": 4, "depth": 1},
    "wavenet": {"channels": 4, "skip": 8, "dilations": 3},
    "vae": {"latent": 3, "width": 16},
    "iwae": {"latent": 3, "width": 16},
    "hvae": {"latent": 3, "width": 16},
}
LINES = "anna\nben\n\nclara, dora\n" * 6
STORY = "It was the best of times, it was the worst of times. " * 12


@cache
def data(kind):
    """Small data of every kind that is compressed, and labels."""
    noise = np.random.default_rng(0)
    match kind:
        case "bits":
            return (noise.random((60, 1, 4, 4)) < 0.3).astype(np.uint8) * 255
        case "grey":
            return noise.integers(0, 256, (60, 5, 4)).astype(np.uint8)
        case "colour":
            return noise.integers(90, 140, (60, 3, 4, 5)).astype(np.uint8)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A function to a run, hardly trained, of a model on a kind of data."""
    folder = tmp_path_factory.mktemp("compression")
    (folder / "story.txt").write_text(STORY)
    (folder / "lines.txt").write_text(LINES)
    wave = (8000 * np.sin(np.arange(2000) * 0.3)).astype(np.int16)
    (folder / "long.wav").write_bytes(riff(wave))
    sources = {
        "story": {"name": str(folder / "story.txt"), "window": 16},
        "lines": {"name": str(folder / "lines.txt"), "lines": True},
        "sound": {"name": str(folder / "long.wav"), "seconds": 0.02},
    }

    @cache
    def run(model, kind, **how):
        exact, codec = model in ("ngram", "independent"), how.get("codec")
        recipe = {} if exact else {**TRAINING, **{f"model.{k}": v for k, v in TINY[model].items()}}
        examples = load_data(**sources[kind]) if kind in sources else data(kind)
        labels = np.arange(60) % 3 if how.get("labels") else None
        return pangen.fit(
            model, examples, labels, steps=None if exact else 3, device="cpu", codec=codec,
            recipe=recipe, out=folder / f"{model}-{kind}-{codec}-{labels is not None}",
        )  # fmt: skip

    return run


def riff(samples, rate=8000, extra=b""):
    """A WAV file as most programs write it."""
    body = samples.astype("<i2").tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(body), b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", len(body))  # fmt: skip
    return head + body + extra


def npy(x):
    content = io.BytesIO()
    np.save(content, x)
    return content.getvalue()


def png(x, **how):
    content = io.BytesIO()
    Image.fromarray(x).save(content, "png", **how)
    return content.getvalue()


def there_and_back(run, contents, tmp_path, **how):
    """Compress files in a folder, decompress, and compare; returns the report."""
    source, out = tmp_path / "in", tmp_path / "out"
    for path in (source, out):
        for old in sorted(path.rglob("*"), reverse=True):
            old.unlink() if old.is_file() else old.rmdir()
    for name, content in contents.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    report = pangen.compress(run, source, tmp_path / "file.pgn", **how)
    assert report["compressed"] == (tmp_path / "file.pgn").stat().st_size
    pangen.decompress(tmp_path / "file.pgn", out, run=run)
    again = {p.relative_to(out / "in").as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    if not how.get("pixels"):
        assert again == contents
    return report, again


NOISE = np.random.default_rng(1)
IMAGES = {
    "bits": [NOISE.integers(0, 2, (n, 4, 4)) for n in (0, 1, 70)],
    "grey": [NOISE.integers(0, 256, (n, 5, 4)) for n in (0, 1, 70)],
    "colour": [NOISE.integers(0, 256, (n, 3, 4, 5)) for n in (0, 1, 70)],
}


@pytest.mark.parametrize(
    ("model", "kind", "how"),
    [
        ("made", "bits", {}), ("made", "grey", {}), ("nade", "bits", {}), ("ngram", "bits", {}), ("independent", "grey", {"labels": True}), ("independent", "bits", {}),
        ("pixelcnn", "bits", {}), ("pixelcnn", "colour", {"codec": "grid"}), ("pixelcnn", "colour", {"codec": "levels"}),
        ("gpt", "colour", {}), ("rnn", "grey", {"labels": True}),
        ("vae", "bits", {}), ("vae", "grey", {"labels": True}), ("iwae", "colour", {}), ("hvae", "grey", {}),
    ],
)  # fmt: skip
def test_images_come_back(made, tmp_path, model, kind, how):
    """Arrays of any whole type, none, one and many; PNG files; and whatever else lies beside them."""
    run = made(model, kind, **how)
    none, one, many = (np.ascontiguousarray(x) for x in IMAGES[kind])
    planes = many[0].transpose(1, 2, 0) if kind == "colour" else many[0]
    grey = (planes * (255 if kind == "bits" else 1)).astype(np.uint8)
    contents = {
        "none.npy": npy(none.astype(np.uint8)),
        "one.npy": npy(one.astype(np.int64)),
        "sub/many.npy": npy(many.astype(np.uint8)),
        "picture.png": png(grey),
        "far.npy": npy(many.astype(np.int64) + 1000),
        "empty": b"",
        "noise.png": bytes(range(256)),
        "other size.png": png(np.zeros((9, 9), np.uint8)),
    }
    report, _ = there_and_back(run, contents, tmp_path)
    assert len(report["kept"]) == 4
    assert report["files"] == 8
    assert report["values"] == 72 * math.prod(run.codec.data_space.shape)
    assert report["payload"] - report["initial"] < 1.02 * report["model"] + 40


@pytest.mark.parametrize(
    ("model", "kind", "codec"),
    [("gpt", "story", "characters"), ("rnn", "lines", "characters"), ("ngram", "story", "bytes"), ("gpt", "lines", "bpe")],
)  # fmt: skip
def test_texts_come_back(made, tmp_path, model, kind, codec):
    if codec == "bpe":
        pytest.importorskip("tokenizers")
    run = made(model, kind, codec=codec)
    contents = {
        "story.txt": STORY.encode(),
        "lines.txt": LINES.encode(),
        "empty.txt": b"",
        "no end.txt": b"anna",
        "windows.txt": b"anna\r\nben\r\n",
        "other.txt": "Zürich\n\ufeff\ufffd 🙂\x00\n\n".encode(),
        "a long line.txt": b"\n" + b"anna " * 60 + b"\nben\n",
        "no text": bytes([0xFF, 0xFE, 0x00]),
    }
    report, _ = there_and_back(run, contents, tmp_path)
    assert len(report["kept"]) == 1
    assert report["payload"] < 1.02 * report["model"] + 8


def test_sound_comes_back(made, tmp_path):
    run = made("wavenet", "sound")
    noise = np.random.default_rng(0).integers(-(2**15), 2**15, 200).astype(np.int16)
    contents = {
        "quiet.wav": riff((50 * np.sin(np.arange(500))).astype(np.int16)),
        "noise.wav": riff(noise, extra=b"LIST of things"),
        "none.wav": riff(noise[:0]),
        "other rate.wav": riff(noise, rate=16000),
        "odd.wav": riff(noise) + b"\x01",
    }
    report, _ = there_and_back(run, contents, tmp_path)
    assert len(report["kept"]) == 1
    assert report["payload"] < 1.005 * report["model"] + 8


def test_each_sample_of_sixteen_bits_belongs_to_the_level_that_the_codec_gives_it():
    level, start, count = kinds.cells()
    assert count.min() > 0
    assert int(count.sum()) == 2**16
    samples = torch.arange(2**16)
    within = samples - start[level]
    assert (within >= 0).all()
    assert (within < count[level]).all()


def test_size_is_the_likelihood(made, tmp_path):
    """Of an exact model within half a percent of what `log_prob` says, whichever way that is computed."""
    run = made("gpt", "colour")
    raw = np.random.default_rng(2).integers(90, 140, (300, 3, 4, 5)).astype(np.uint8)
    report, _ = there_and_back(run, {"x.npy": npy(raw)}, tmp_path)
    nats = -float(run.log_prob(torch.from_numpy(raw)).nats.sum())
    assert report["payload"] > 10_000
    assert report["model"] == pytest.approx(nats / 8 / math.log(2), rel=1e-4)
    assert 1 <= report["payload"] / report["model"] < 1.005


@pytest.mark.parametrize(("model", "kind"), [("vae", "grey"), ("hvae", "colour")])
def test_bits_back_costs_the_bound(made, tmp_path, model, kind):
    """Chained, an example costs the negative bound of its own code, which on average is that of any other."""
    run = made(model, kind)
    shape = run.codec.data_space.shape
    raw = np.random.default_rng(2).integers(90, 140, (300, *shape)).astype(np.uint8)
    report, _ = there_and_back(run, {"x.npy": npy(raw)}, tmp_path)
    assert report["over_model"] == pytest.approx(1, abs=0.01)
    x, generator = run.codec.encode(torch.from_numpy(raw)).x, torch.Generator().manual_seed(0)
    with torch.no_grad():
        q = run.model.q(x)
        noise = torch.randn(8, *x.shape[:1], *run.model.latent_space.shape, generator=generator)
        bound = -run.model.log_weights(q, x, None, noise).mean(0).sum()
    assert report["model"] == pytest.approx(float(bound) / 8 / math.log(2), rel=0.01)


@pytest.mark.parametrize(("model", "kind"), [("vae", "grey"), ("hvae", "colour")])
def test_cells_as_wide_as_the_posterior_allows_cost_fewer_bits_to_begin_with(
    made, tmp_path, model, kind, monkeypatch
):
    """Against the finest cells for all codes: less at the start, and the same for what follows."""
    run = made(model, kind)
    shape = run.codec.data_space.shape
    np.save(tmp_path / "x.npy", np.random.default_rng(2).integers(90, 140, (100, *shape)).astype(np.uint8))
    own = pangen.compress(run, tmp_path / "x.npy")
    monkeypatch.setattr(bits_back.Grid, "for_scale", lambda sigma: bits_back.Grid(bits_back.FINEST))
    plain = pangen.compress(run, tmp_path / "x.npy")
    bits = bits_back.FINEST - 1 - 4  # of a q that has learnt little: half of a standard deviation near 1
    assert own["initial"] <= plain["initial"] - bits * run.model.latent_space.dims / 8 + 8
    assert own["model"] == pytest.approx(plain["model"], rel=0.01)
    assert own["over_model"] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("sigma", [3.0, 1.0, 0.2, 1e-9])
def test_a_grid_is_as_fine_as_half_a_standard_deviation(sigma):
    grid = bits_back.Grid.for_scale(sigma)
    assert 2.0**-grid.fine <= max(sigma / 2, 2.0**-bits_back.FINEST)
    assert 2.0**-grid.fine > sigma / 4 or grid.fine == 0


def test_the_users_threads_and_global_state_do_not_matter(made, tmp_path):
    """Compressed with one number of threads, decompressed with another: the coder has its own."""
    run = made("pixelcnn", "colour", codec="grid")
    (tmp_path / "x.npy").write_bytes(npy(np.ascontiguousarray(IMAGES["colour"][2])))
    before = torch.get_num_threads()
    written = []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            torch.manual_seed(n)
            run.model.train(n == 2)
            written.append(tmp_path / f"{n}.pgn")
            pangen.compress(run, tmp_path / "x.npy", written[-1])
            assert torch.get_num_threads() == n
        pangen.decompress(written[0], tmp_path / "out", run=run)
    finally:
        torch.set_num_threads(before)
        run.model.eval()
    assert written[0].read_bytes() == written[1].read_bytes()
    assert (tmp_path / "out/x.npy").read_bytes() == (tmp_path / "x.npy").read_bytes()


def file_of(kind):
    """Any ending and file for a run on a kind of data: nothing, one example, a few, noise, what it cannot hold or is damaged."""
    if kind in ("story", "lines"):
        any_text = st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
        own = st.text("It was the best of times\n", max_size=200).map(str.encode)
        return st.tuples(st.just(".txt"), own | any_text | st.binary(max_size=40))
    if kind == "sound":
        samples = st.integers(0, 60).flatmap(lambda n: hnp.arrays(np.int16, n))
        wave = st.builds(riff, samples, rate=st.sampled_from([8000, 16_000]), extra=st.binary(max_size=3))
        return st.tuples(st.just(".wav"), wave | damaged(wave) | st.binary(max_size=60))
    own = st.integers(0, 3).flatmap(lambda n: hnp.arrays(np.uint8, (n, *data(kind).shape[1:])))
    other = hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(max_side=5))
    picture = hnp.arrays(np.uint8, st.just(data(kind).shape[-2:]) | hnp.array_shapes(min_dims=2, max_dims=2))
    return st.one_of(
        st.tuples(st.just(".npy"), own.map(npy)),
        st.tuples(st.just(".npy"), other.map(npy) | damaged(own.map(npy))),
        st.tuples(st.just(".png"), picture.map(png) | damaged(picture.map(png))),
        st.tuples(st.sampled_from([".npy", ".png"]), st.binary(max_size=40)),
    )


def damaged(contents):
    """With one byte that is another."""
    change = st.tuples(st.integers(0, 2**16), st.binary(min_size=1, max_size=1))
    return st.builds(
        lambda content, where: content[: (i := where[0] % len(content))] + where[1] + content[i + 1 :], contents, change
    )  # fmt: skip


HEADER = b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': %s, }"


@pytest.mark.parametrize(
    "shape", [b"(9999999999999, 4, 4)", b"(10**9)", b"(3, 4", b"()", b"(2,)", b"(-1, 4, 4)"]
)
def test_an_array_that_claims_what_it_is_not_is_kept(made, tmp_path, shape):
    report, _ = there_and_back(
        made("independent", "grey"), {"x.npy": (HEADER % shape).ljust(127) + b"\n" + bytes(32)}, tmp_path
    )
    assert report["kept"]


def test_two_hundred_files_come_back(made, tmp_path):
    """As many as hypothesis draws, a folder at a time, of texts, images and sound, by coders of every way."""
    ways = {
        "story": ("ngram", {"codec": "characters"}), "lines": ("gpt", {"codec": "bytes"}), "bits": ("made", {}),
        "grey": ("vae", {}), "colour": ("pixelcnn", {"codec": "levels"}), "sound": ("wavenet", {}),
    }  # fmt: skip
    came, seen = Counter(), Counter()
    for kind, (model, how) in ways.items():

        @settings(max_examples=5, deadline=None, derandomize=True, database=None)
        @given(
            st.just(kind), st.just(made(model, kind, **how)), st.lists(file_of(kind), min_size=9, max_size=9)
        )
        def check(kind, run, files):
            contents = {f"{i}{ending}": content for i, (ending, content) in enumerate(files)}
            report, _ = there_and_back(run, {"empty": b""} | contents, tmp_path)
            came[kind] += report["files"]
            seen[kind] += report["files"] - len(report["kept"])

        check()
    print(f"{came.total()} files came back, {seen.total()} of them by a model: {dict(came)}.")
    assert came.total() >= 200
    assert min(seen.values()) >= 10


def test_a_stack_gives_back_what_was_popped_from_it():
    """Pop by q, push by p, and the other way round: not a bit is lost."""
    words = np.random.default_rng(0).integers(0, 2**32, 200, dtype=np.uint32)
    stack = Stack(words, sealed=False)
    q = Normal(torch.randn(5, 3), torch.randn(5, 3) - 2)
    grid = bits_back.Grid(bits_back.FINEST)
    cells = pop_levels(stack, grid.below(q), grid.count, (5, 3))
    z = grid.middle(cells)
    assert torch.equal(grid.nearest(z), cells)
    assert ((z - q.mean).abs() < 6 * q.log_scale.exp()).all()
    push_levels(stack, grid.below(q), grid.count, cells)
    assert np.array_equal(stack.ans.get_compressed(unseal=True), words)


@pytest.mark.parametrize(
    ("space", "name"),
    [
        (Space("binary", (2, 3, 4), 2), "auto"), (Space("tokens", (2, 3, 4), 5), "auto"),
        *[(Space("real", (2, 3, 4), 7), name) for name in ("logistic", "categorical", "normal", "fixed")],
    ],
)  # fmt: skip
def test_levels_cost_their_probability(space, name):
    """`below` is the sum of what `log_prob` gives each level, and halving codes them at that price."""
    found = likelihood(space, name)
    p, K = found(torch.randn(4, found.channels, *space.shape)), space.levels
    values = torch.linspace(-1, 1, K) if space.is_grid else torch.arange(K)
    at = values.float() if space.kind != "tokens" else values
    alone = found(torch.randn(1, found.channels, 1, 1, 1))
    each = torch.stack([alone.log_prob(at[k].view(1, 1, 1, 1)).exp() for k in range(K)])
    sums = torch.stack([alone.below(torch.full((1, 1, 1, 1), k)) for k in range(K + 1)]).flatten()
    assert torch.allclose(sums.diff(), each.flatten().double(), atol=1e-6)
    drawn = p.sample()
    levels = ((drawn + 1) * (K - 1) / 2).round().long() if space.is_grid else drawn.long()
    writer = Writer()
    code_levels(writer, p.below, K, tuple(levels.shape), levels)
    bits = -float(p.log_prob(at[levels]).sum()) / math.log(2)
    assert 32 * len(writer.words()) == pytest.approx(bits, rel=0.01, abs=64)
    again = code_levels(Reader(writer.words()), p.below, K, tuple(levels.shape))
    assert torch.equal(again, levels)


def test_tables_are_whole_numbers_and_leave_nothing_out():
    logits = torch.tensor([[0.0, -1e9, 50.0], [1.0, 2.0, 3.0], [-torch.inf, 0.0, 0.0]])
    found = table(logits)
    assert (found == np.floor(found)).all()
    assert found.min() >= 1
    assert (found.astype(np.float64).sum(1) <= 2**24).all()
    share = found / found.sum(1, keepdims=True)
    assert np.allclose(share, logits.double().softmax(1).numpy(), atol=1e-6)


def test_a_stream_is_cut_into_rows_that_hold_all_of_it():
    for n in (0, 1, 63, 64, 65, 10_000, 1_000_000):
        for context in (1, 64):
            sizes = segments(n, context)
            assert sum(sizes) == n
            assert len(sizes) <= ROWS
            assert min(sizes, default=1) > 0


@pytest.fixture
def file(made, tmp_path):
    """A compressed file and its run."""
    run = made("ngram", "bits")
    (tmp_path / "x.npy").write_bytes(npy(IMAGES["bits"][2].astype(np.uint8)))
    pangen.compress(run, tmp_path / "x.npy", tmp_path / "x.pgn")
    return tmp_path / "x.pgn", run


def refused(path, run, match):
    """No traceback, and nothing written."""
    out = path.parent / "refused"
    with pytest.raises(pangen.PangenError, match=match) as error:
        pangen.decompress(path, out, run=run)
    assert "\n" not in str(error.value)
    assert not out.exists()
    assert not list(path.parent.glob(".refused*"))


def test_every_flipped_bit_and_every_cut_is_seen(file):
    path, run = file
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        refused(path, run, "damaged|cut short|none that Pangen|another version")
        path.write_bytes(content[:place])
        refused(path, run, "cut short|none that Pangen|changed on its way")
    path.write_bytes(content + b"\0")
    refused(path, run, "longer")


def changed(path, change):
    """A file whose checksum fits what was changed in its header."""
    header, payload, aside = container.read_container(path)
    change(header)
    parts = [container.deflated(json.dumps(header).encode()), payload.astype("<u4").tobytes(), aside]
    content = container.MAGIC + container.SIZES.pack(*map(len, parts)) + b"".join(parts)
    path.write_bytes(content + container.digest(content))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda h: h["members"][0].update(size=2**40), "1024.0 GiB"),
        (lambda h: h["members"][0].update(size=-1), "no size"),
        (lambda h: h["members"][0].update(size="many"), "no size"),
        *[
            (lambda h, name=name: h["members"][0].update(name=name), "leaves its folder")
            for name in ("../x", "/etc/x", "a/../../x", "", "a//b", "a\\..\\b", "C:x", "a\0b", ".", 7)
        ],
        (lambda h: h["members"].append(h["members"][0]), "twice"),
        (lambda h: h["members"].append({"name": "x.npy/y", "size": 0}), "a file and a folder"),
        (lambda h: h["members"][0]["form"].update(n=10**12), "more than its size"),
        (lambda h: h["members"][0]["form"].update(n=-1), "more than its size"),
        (lambda h: h["members"][0]["form"].update(n=3), "does not come back"),
        (lambda h: h["members"][0]["form"].update(type="O"), "do not fit together"),
        (lambda h: h["members"][0].pop("form"), "do not fit together|does not come back"),
        (lambda h: h["members"][0].update(form=7), "do not fit together"),
        (lambda h: h.update(members=None), "do not fit together"),
        (lambda h: h.update(coder="bits back"), "another coder"),
        (lambda h: h.update(probe="00"), "arithmetic differs"),
        (lambda h: h.update(check="00"), "does not come back"),
        (lambda h: h.update(weights="00"), "another run"),
        *[(lambda h, n=n: h.update(threads=n), "number of threads") for n in ("many", -1, 10**9)],
        (lambda h: h.clear(), "do not fit together"),
    ],
)
def test_a_hostile_file_is_refused(file, change, match):
    path, run = file
    changed(path, change)
    refused(path, run, match)


@pytest.mark.parametrize(("model", "kind"), [("ngram", "bits"), ("vae", "grey")])
def test_a_payload_made_up_is_refused(made, tmp_path, model, kind):
    """Whatever words are decoded, the checksum of the original tells."""
    run, path = made(model, kind), tmp_path / "x.pgn"
    (tmp_path / "x.npy").write_bytes(npy(IMAGES[kind][2].astype(np.uint8)))
    pangen.compress(run, tmp_path / "x.npy", path)
    header, payload, aside = container.read_container(path)
    noise = np.random.default_rng(0).integers(0, 2**32, len(payload), dtype=np.uint32)
    for words in (noise, noise * 0, noise[:0], payload[:-1]):
        path.write_bytes(container.Container(header, words, aside).to_bytes())
        refused(path, run, "does not come back|do not fit together")


@pytest.mark.parametrize(
    "change",
    [
        {"fine": [99]}, {"fine": [-1]}, {"fine": []}, {"fine": "many"}, {"initial": 2**40}, {"initial": -4},
        {"groups": [10**9]}, {"groups": [0]}, {"groups": []},
    ],
)  # fmt: skip
def test_a_stack_that_claims_what_it_is_not_is_refused(made, tmp_path, change):
    run, path = made("vae", "grey"), tmp_path / "x.pgn"
    (tmp_path / "x.npy").write_bytes(npy(IMAGES["grey"][1].astype(np.uint8)))
    pangen.compress(run, tmp_path / "x.npy", path)
    changed(path, lambda header: header.update(change))
    refused(path, run, "do not fit together|does not come back")


def test_a_bomb_in_the_header_is_refused(file, monkeypatch):
    path, run = file
    monkeypatch.setenv("PANGEN_MOST_FACTS", "100")
    refused(path, run, "more than 100 bytes of facts.* raise .*PANGEN_MOST_FACTS")


def test_what_cannot_be_compressed_says_what_is_missing(made, tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    for model, examples, recipe, match in [
        ("mixture", data("grey"), {}, "local bits-back"),
        ("edm", data("grey"), {"model.width": 16}, "no bound over steps"),
        ("gan", data("grey"), {"model.width": 8}, "no likelihood"),
        ("rbm", data("bits"), {"model.chains": 8, "model.temperatures": 40}, "neither conditionals"),
        ("made", data("bits"), {"model.width": 8, "model.orderings": 2}, "orderings 1"),
    ]:
        steps = None if model == "mixture" else 1
        run = pangen.fit(model, examples, steps=steps, device="cpu", recipe=recipe)
        with pytest.raises(pangen.PangenError, match=match):
            pangen.compress(run, tmp_path / "x")
    run = made("ngram", "bits")
    with pytest.raises(pangen.PangenError, match="no file or folder"):
        pangen.compress(run, tmp_path / "absent")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_bytes(b"")
    with pytest.raises(pangen.PangenError, match="two inputs"):
        pangen.compress(run, [tmp_path / "x", tmp_path / "a/x"])
    (tmp_path / "b").mkdir()
    with pytest.raises(pangen.PangenError, match="no file in"):
        pangen.compress(run, tmp_path / "b")


def test_other_formats_are_measured_in_full():
    """A sheet holds every image, whatever their number; FLAC beats the bare samples of a tone."""
    images = IMAGES["colour"][2].astype(np.uint8)
    (sheet,) = sizes.sheets(images)
    assert sheet.shape[0] == 3
    assert sheet[:, :4, :5].tolist() == images[0].tolist()
    assert int(sheet.sum(dtype=np.int64)) == int(images.sum(dtype=np.int64))
    assert images[0].size < sizes.saved(images[0], 256, sizes.FORMATS["png"]) < 200
    pytest.importorskip("soundfile")
    tone = (1000 * np.sin(np.arange(4000) * 0.01)).astype(np.int64)
    assert 500 < sizes.flac(tone, 8000) < 8000


def test_pixels_alone(made, tmp_path):
    """A PNG of another program comes back as the same picture."""
    picture = np.random.default_rng(0).integers(0, 256, (5, 4)).astype(np.uint8)
    content = (
        png(picture, compress_level=3)[:-12]
        + b"\0\0\0\3tEXta\0b"
        + struct.pack(">I", zlib.crc32(b"tEXta\0b"))
    )
    content += png(picture)[-12:]
    run = made("made", "grey")
    assert there_and_back(run, {"x.png": content}, tmp_path)[0]["kept"] == ["in/x.png"]
    report, again = there_and_back(run, {"x.png": content}, tmp_path, pixels=True)
    assert not report["kept"]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(again["x.png"]))), picture)


def test_nothing_is_written_over(file, tmp_path):
    path, run = file
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")
    with pytest.raises(pangen.PangenError, match="holds something"):
        pangen.decompress(path, tmp_path / "full", run=run)
    assert pangen.decompress(path, tmp_path / "deep/new", run=run)["files"] == 1
    assert archive.hash_of(run) == archive.hash_of(pangen.load_run(run.path, device="cpu"))
