"""Texts as conditions: what the encoder reads, captions beside images, and samples that follow a prompt."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import pangen
from pangen.cli.main import main
from pangen.codecs import choose_codec, codec_from_json
from pangen.data import Data, Split, load_data
from pangen.errors import PangenError
from pangen.networks.conditions import TextEncoder
from pangen.networks.labels import hide
from pangen.networks.roles import Condition
from pangen.registry import get
from pangen.run import load_run
from pangen.space import Space

TEXT = Space("tokens", (6,), levels=5, end=4)
SPACE = Space("real", (2,), condition=TEXT)


def encoder() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(TEXT, 16).eval()


def test_nothing_behind_the_end_is_read_and_all_before_it_is():
    read, y = encoder(), torch.tensor([[1, 2, 3, 4, 4, 4]])
    base = read(y)
    assert torch.equal(read(torch.tensor([[1, 2, 3, 4, 0, 2]])), base)
    for place in range(4):
        other = y.clone()
        other[0, place] = 0
        assert (read(other) - base).abs().max() > 1e-4
    assert (read(torch.tensor([[2, 1, 3, 4, 4, 4]])) - base).abs().max() > 1e-4  # order matters


def test_a_row_does_not_depend_on_the_others():
    read = encoder()
    y = torch.randint(0, 4, (8, 6), generator=torch.Generator().manual_seed(0))
    changed = y.clone()
    changed[1:] = 4
    assert torch.equal(read(y)[0], read(changed)[0])


def test_reading_each_text_once_is_reading_them_all():
    read, y = encoder(), torch.tensor([[1, 2, 4, 4, 4, 4], [3, 4, 4, 4, 4, 4], [1, 2, 4, 4, 4, 4], [4] * 6])
    torch.testing.assert_close(read.train()(y), read.eval()(y))
    y[0] = 1  # a text of full length has no end
    torch.testing.assert_close(read.train()(y), read.eval()(y))


def test_no_condition_is_the_empty_text_and_what_guidance_hides_is_that():
    condition = Condition(SPACE, 16).eval()
    empty = torch.full((3, 6), 4)
    assert torch.equal(SPACE.no_condition(3), empty)
    assert torch.equal(condition(None, 3), condition(empty, 3))
    y = torch.zeros(3, 6, dtype=torch.long)
    assert torch.equal(hide(y, SPACE, 1.0), empty)
    assert condition(y, 3).shape == (3, 16)


def test_captioned_digits_are_the_digits_with_their_names():
    data, grey = load_data("captioned-digits"), load_data("digits")
    assert data.captioned
    assert not data.pairs
    for name in ("train", "validation", "test"):
        assert torch.equal(data.split(name).x, grey.split(name).x)
        assert torch.equal(data.classes(data.split(name).y), grey.split(name).y)
    assert set(data.train.y) == set(data.meanings)  # every caption occurs
    assert load_data("captioned-digits").fingerprint == data.fingerprint != grey.fingerprint
    assert data.classes(("a horse",)) is None


def test_codec_remembers_texts_and_takes_new_words():
    data = load_data("captioned-digits")
    codec = choose_codec(get("edm"), data)
    again = codec_from_json(json.loads(json.dumps(codec.to_json())))
    assert again == codec
    y = codec.encode_condition(("a three", "", "a neat 3"))
    assert y.shape == (3, *codec.condition.shape)
    assert torch.equal(y[1], codec.space.no_condition(1)[0])
    assert codec.source.decode(y) == ("a three", "", "a neat 3")
    assert choose_codec(get("edm"), data, conditional=False).condition is None
    assert choose_codec(get("made"), data).condition is None  # it takes classes alone
    with pytest.raises(PangenError, match="cannot be conditioned on texts"):
        choose_codec(get("made"), data, conditional=True)


def two_points() -> Data:
    """'left' and 'right' of a line, and which is which is in the text alone."""
    parts = []
    for i, n in enumerate((400, 60, 60)):
        generator = torch.Generator().manual_seed(i)
        y = torch.randint(2, (n,), generator=generator)
        x = 0.1 * torch.randn(n, 2, generator=generator) + (2 * y - 1)[:, None]
        parts.append(Split(x, tuple(("on the left", "right")[c] for c in y.tolist())))
    return Data("points", "vector", *parts, meanings={"on the left": 0, "right": 1})


@pytest.fixture(scope="module")
def points():
    settings = {
        "model.width": 32,
        "training.batch": 32,
        "training.validations": 2,
        "model.steps": 8,
        "model.unlabelled": 0.4,
    }
    return pangen.fit("edm", two_points(), steps=150, recipe=settings)


def test_samples_are_what_their_texts_say(points):
    x = points.sample(64, ["on the left", "right"] * 32, seed=1)
    right = (x.mean(1) > 0) == torch.tensor([False, True] * 32)
    assert right.double().mean() > 0.95
    free = points.model.sample(64, seed=1)  # the null condition: both
    assert 0.15 < float((points.codec.decode(free).mean(1) > 0).double().mean()) < 0.85
    told = points.conditions(200)
    assert {"on the left", "right"} == set(told)


def test_evaluation_asks_for_the_text_and_classifies_by_its_meaning(points):
    found = pangen.evaluate(points, two_points(), samples=60, examples=8)
    assert found["likelihood"]["none"]
    assert found["likelihood_given_label"]["nats"] > -3
    assert found["classification"]["value"] > 0.95
    with pytest.raises(PangenError, match="given texts"):
        points.log_prob(two_points().test.x[:3])


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(f"picture {i % 3}\n")
    return tmp_path


def test_a_folder_of_images_with_texts_beside_them(folder, capsys):
    data = load_data(folder)
    assert data.captioned
    assert set(data.train.y) <= {"picture 0", "picture 1", "picture 2"}
    assert not data.notes
    assert main(["data", str(folder)]) == 0
    assert "3 different ones" in capsys.readouterr().out
    (folder / "3.txt").unlink()
    with pytest.raises(PangenError, match=r"3\.png has none"):
        load_data(folder)
    (folder / "3.txt").write_text(" \n")
    with pytest.raises(PangenError, match=r"3\.txt is empty"):
        load_data(folder)


def test_prompts_on_the_command_line(tmp_path, capsys):
    run = str(tmp_path / "run")
    small = [
        "--model.width",
        "16",
        "--model.steps",
        "3",
        "--training.batch",
        "16",
        "--training.validation_examples",
        "8",
    ]
    assert main(["fit", "edm", "captioned-digits", "--steps", "2", "-o", run, *small]) == 0
    assert load_run(run).answers
    assert (
        main(
            [
                "sample",
                run,
                "--prompt",
                "a three",
                "--guidance",
                "2",
                "-n",
                "2",
                "-o",
                str(tmp_path / "a.png"),
            ]
        )
        == 0
    )
    assert main(["sample", run, "--given", "a three", "-n", "2"]) == 0
    assert main(["reconstruct", run, "-n", "2"]) == 0
    capsys.readouterr()
    assert main(["sample", run, "--prompt", "a three", "--given", "a four"]) == 2
    assert "leave out one" in capsys.readouterr().err
    assert main(["sample", run, "--prompt", "a three " * 20]) == 2
    assert "tokens and this run takes 15" in capsys.readouterr().err
    assert main(["interpolate", run, "0", "1", "-n", "3"]) == 0
