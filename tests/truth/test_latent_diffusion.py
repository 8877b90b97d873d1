"""Diffusion of codes: with labels and guidance, of vectors and of tokens, and in one step."""

import pytest
import torch

import pangen

SMALL = {"model.width": 16, "training.validations": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With a first stage of the digits, barely trained."""
    found = tmp_path_factory.mktemp("latent")
    pangen.fit("vae", "digits", steps=3, out=found / "vae", device="cpu", conditional=False, recipe=SMALL)
    return found


@pytest.mark.parametrize("name", ["edm", "ddpm", "flow-matching"])
def test_labels_and_guidance_reach_the_pictures(folder, name):
    """Through the codes: labels move them, guidance further, and what is decoded are grey levels."""
    run = pangen.fit(name, f"latents:{folder / 'vae'}", steps=30, device="cpu", recipe=SMALL)
    assert run.codec.condition is not None
    few, many = run.sample(3, "3", seed=1, guidance=2.0), run.sample(9, "3", seed=1, guidance=2.0)
    assert torch.equal(few, many[:3])
    assert few.shape == (3, 1, 8, 8)
    assert few.dtype == torch.uint8
    assert few.max() <= 16
    three = torch.full((9,), 3)
    plain, guided, free = (run.model.sample(9, three, seed=1, guidance=w) for w in (1.0, 2.0, 0.0))
    assert not torch.allclose(plain, guided)
    assert torch.allclose(free, run.model.sample(9, torch.full((9,), 10), seed=1), atol=1e-5)
    means = run.codec.decode(plain)  # without the noise that p(x given z) leaves to the pixels
    assert means.shape == (9, 1, 8, 8)


def test_codes_are_drawn_in_one_step(folder):
    """A student of a model of codes draws codes behind the same first stage."""
    teacher = pangen.fit(
        "edm", f"latents:{folder / 'vae'}", steps=3, out=folder / "edm", device="cpu", recipe=SMALL
    )
    for to in ("consistency", "flow-matching"):
        student = pangen.convert(folder / "edm", to, steps=2, device="cpu")
        assert student.codec == teacher.codec
        assert student.sample(2, "3").shape == (2, 1, 8, 8)


def test_codes_that_are_tokens_are_masked(tmp_path):
    fields = {"steps": 2, "device": "cpu", "conditional": False, "recipe": SMALL}
    pangen.fit("vqvae", "digits", out=tmp_path / "first", **fields)
    run = pangen.fit("masked-diffusion", f"latents:{tmp_path / 'first'}", **fields)
    assert run.sample(2).shape == (2, 1, 8, 8)
