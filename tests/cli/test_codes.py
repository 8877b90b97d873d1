"""The verbs of codes, `latents:RUN` on the command line, and the mistakes one can make with them."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

import pangen as library

SMALL = {"model.width": 16, "training.validations": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """An ae, a vae with labels and one of vectors, hardly trained."""
    folder = tmp_path_factory.mktemp("codes")
    library.fit("ae", "digits", steps=3, out=folder / "ae", device="cpu", recipe=SMALL)
    library.fit("vae", "digits", steps=3, out=folder / "labelled", device="cpu", recipe=SMALL)
    library.fit("vae", "moons", steps=3, out=folder / "moons", device="cpu", recipe=SMALL)
    return folder


def test_fit_without_labels_and_a_prior_of_its_codes(pangen, here):
    fields = ["--steps", 2, "--model.width", 16, "--training.validations", 1]
    assert pangen("fit", "vae", "digits", "--unconditional", *fields, "-o", "first").code == 0
    assert json.loads((here / "first/recipe.json").read_text())["conditional"] is False
    again = pangen("fit", "vae", "digits", "--steps", 2, "-o", "first", "--resume", "--unconditional")
    assert "complete" in again.err
    outcome = pangen("fit", "realnvp", "latents:first", *fields)
    assert outcome.code == 0, outcome.err
    assert "run:  runs/realnvp-first" in outcome.out
    assert pangen("sample", "runs/realnvp-first", "-n", 3, "--given", 4, "-o", "x.npy").code == 0
    assert np.load(here / "x.npy").shape == (3, 1, 8, 8)
    assert pangen("sample", "runs/realnvp-first", "-n", 2).out.count("\n") >= 8
    outcome = pangen("fit", "nice", "digits", "--codec", "grid", *fields, "-o", "grid", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads((here / "grid/codec.json").read_text())["name"] == "grid"


def test_codes_go_to_a_file_and_back(pangen, here, runs):
    found = pangen("encode", runs / "ae", "-o", "z.npy", "--json").json
    assert found == {"run": str(runs / "ae"), "codes": [300, 16], "split": "test", "file": "z.npy"}
    digits = library.load_data("digits")
    assert np.array_equal(np.load("z.npy"), library.encode(runs / "ae", digits.test.x).numpy())
    assert pangen("decode", runs / "ae", "z.npy", "-o", "x.npy").code == 0
    again = library.reconstruct(runs / "ae", digits.test.x)
    assert again.dtype == torch.uint8
    assert np.array_equal(np.load("x.npy"), again.numpy())
    assert pangen("decode", runs / "ae", "z.npy", "-o", "x.png").code == 0
    assert Image.open("x.png").size[0] > 100
    np.save("one.npy", np.load("z.npy")[:1])
    assert pangen("decode", runs / "ae", "one.npy").out.count("\n") == 8
    assert pangen("encode", runs / "ae", "digits", "--split", "all", "-o", "z.npy").code == 0
    assert np.load("z.npy").shape == (1797, 16)


def test_reconstruct_shows_originals_above_and_measures(pangen, here, runs):
    found = pangen("reconstruct", runs / "ae", "-o", "strip.png", "-n", 5, "--json").json
    raw = library.load_data("digits").test.x
    again = library.reconstruct(runs / "ae", raw)
    error = float(((again.double() - raw) / 16).square().mean())
    assert found["mean_squared_error"] == pytest.approx(error, rel=1e-9)
    assert (found["examples"], found["unit"]) == (300, "pixels in [0, 1]")
    sheet = np.asarray(Image.open("strip.png"))
    scale = (sheet.shape[1] + 2) // 5 // 8
    first = sheet[: 8 * scale : scale, : 8 * scale : scale, 0]
    assert np.array_equal(first, np.rint(raw[0, 0].numpy() * (255 / 16)).astype(np.uint8))
    assert sheet.shape[0] == 2 * (8 * scale + 2) - 2
    assert "units of the data" in pangen("reconstruct", runs / "moons", "-o", "x.npy").out
    assert np.load("x.npy").shape == library.load_data("moons").test.x.shape


def test_interpolation_starts_and_ends_at_what_comes_back(pangen, here, runs):
    digits = library.load_data("digits").test
    ends = library.reconstruct(runs / "ae", digits.x[[3, 7]]).numpy()
    assert pangen("interpolate", runs / "ae", 3, 7, "-n", 5, "-o", "way.npy").code == 0
    way = np.load("way.npy")
    assert way.shape == (5, 1, 8, 8)
    assert np.array_equal(way[[0, -1]], ends)
    for name, i in (("a", 3), ("b", 7)):
        np.save(f"{name}.npy", digits.x[i].numpy())
        grey = np.rint(digits.x[i, 0].numpy() * (255 / 16)).astype(np.uint8)
        Image.fromarray(grey).save(f"{name}.png")
    for a, b in (("a.npy", "b.png"), ("a.png", 7)):
        assert pangen("interpolate", runs / "ae", a, b, "-n", 5, "-o", "same.npy").code == 0
        assert np.array_equal(np.load("same.npy"), way)
    assert pangen("interpolate", runs / "ae", 3, 7, "-o", "way.png", "--json").json["examples"] == 8
    sheet = Image.open("way.png")
    assert sheet.width > 7 * sheet.height
    assert pangen("interpolate", runs / "moons", 0, 1, "-n", 3).out.count("\n") == 3


def test_labels_are_those_of_the_data_or_the_one_given(pangen, here, runs):
    digits = library.load_data("digits").test
    assert pangen("encode", runs / "labelled", "-o", "z.npy").code == 0
    assert np.array_equal(np.load("z.npy"), library.encode(runs / "labelled", digits.x, digits.y).numpy())
    assert pangen("encode", runs / "labelled", "--given", 4, "-o", "z.npy").code == 0
    assert np.array_equal(np.load("z.npy"), library.encode(runs / "labelled", digits.x, "4").numpy())
    assert pangen("decode", runs / "labelled", "z.npy", "--given", 4, "-o", "x.npy").code == 0
    assert pangen("interpolate", runs / "labelled", 3, 7, "-o", "way.npy").code == 0
    ends = library.reconstruct(runs / "labelled", digits.x[[3, 7]], digits.y[[3, 7]]).numpy()
    assert np.array_equal(np.load("way.npy")[[0, -1]], ends)


def test_a_row_of_codes_does_not_depend_on_the_others(runs):
    x = library.load_data("moons").test.x
    z = library.encode(runs / "moons", x)
    assert torch.equal(library.encode(runs / "moons", x[:3]), z[:3])
    assert torch.equal(library.decode(runs / "moons", z[:3]), library.decode(runs / "moons", z)[:3])


MISTAKES = [
    ("encode {digits} -o z.npy", "independent has no codes; take a run of vae"),
    ("encode {runs}/ae", "needs -o"),
    ("encode {runs}/ae -o z.png", "z.png .npy"),
    ("encode {runs}/ae moons -o z.npy", "own kind"),
    ("encode {runs}/ae --lines -o z.npy", "need DATA"),
    ("encode {runs}/ae --split tst -o z.npy", "unknown split 'test'"),
    ("encode {runs}/ae --given 3 -o z.npy", "without labels --given"),
    ("encode {runs}/labelled --given 12 -o z.npy", "unknown label '12'"),
    ("decode {runs}/ae nowhere.npy", "no .npy file 'nowhere.npy' pangen encode"),
    ("decode {runs}/ae wrong.npy", "(N, 16) (5, 3)"),
    ("decode {runs}/ae nan.npy", "finite"),
    ("decode {runs}/ae text.npy", "numbers"),
    ("decode {runs}/ae broken.npy", "broken.npy .npy file"),
    ("decode {runs}/ae good.npy -o x.txt", "images .png .npy"),
    ("decode {runs}/labelled good.npy", "trained with labels --given"),
    ("reconstruct {runs}/moons -o x.png", "no images .npy"),
    ("reconstruct {runs}/ae -o x.txt", "x.txt .png .npy"),
    ("interpolate {runs}/ae 0 300", "no example 300 test 0 to 299"),
    ("interpolate {runs}/ae 0 -1", "no example -1"),
    ("interpolate {runs}/ae 0 nowhere.png", "no file 'nowhere.png'"),
    ("interpolate {runs}/ae 0 large.png", "9x9 pixels 8x8"),
    ("interpolate {runs}/ae 0 colour.png", "colour grey"),
    ("interpolate {runs}/ae 0 wrong.npy", "one example at each end, not 5"),
    ("interpolate {runs}/ae 0 1 -n 1", "-n whole number at least 2"),
    ("interpolate {runs}/labelled 0 grey.png", "trained with labels --given"),
    ("sample {runs}/ae", "cannot be sampled pangen fit mixture latents:"),
    ("fit mixture latents:{runs}/labelled", "trained with labels --unconditional"),
    ("fit mixture latents:{digits}", "independent has no codes"),
    ("fit mixture latents:nowhere", "no run folder 'nowhere'"),
    ("fit gpt latents:{runs}/ae", "gpt cannot model codes that are real vectors"),
    ("fit mixture digits --codec grit", "unknown codec 'grit' 'grid'"),
    ("fit mixture digits --codec grid", "behind the codec 'grid'; take dequantise"),
]
"""Commands, and words that their sentence holds."""


@pytest.mark.parametrize(("command", "words"), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_mistakes_are_one_sentence(command, words, pangen, here, runs, digits_run):
    np.save("wrong.npy", np.zeros((5, 3), np.float32))
    np.save("nan.npy", np.full((5, 16), np.nan, np.float32))
    np.save("text.npy", np.array([["a"] * 16]))
    np.save("good.npy", np.zeros((2, 16), np.float32))
    (here / "broken.npy").write_text("no array")
    for name, shape in (("large", (9, 9)), ("colour", (8, 8, 3)), ("grey", (8, 8))):
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(f"{name}.png")
    before = sorted(here.rglob("*"))
    outcome = pangen(*shlex.split(command.format(runs=runs, digits=digits_run)))
    assert outcome.code == 2, outcome.out
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1, outcome.err
    for word in words.split():
        assert word.lower() in outcome.err.lower(), outcome.err
    assert sorted(here.rglob("*")) == before
