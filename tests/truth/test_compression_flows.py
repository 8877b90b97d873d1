"""Flows and diffusion as files: bits-back through what floating point does not invert, at the size of the bound."""

from __future__ import annotations

import io
import math
from functools import cache

import numpy as np
import pytest
import torch

import pangen
from pangen.compression.coder import Stack
from pangen.compression.flows import BITS, STEPS, Fill, log_logistic, logistic
from pangen.compression.tape import PART, Tape
from pangen.compression.walk import CELL, Line, Told, Walk, real, units, walkable
from pangen.likelihoods import Normal
from pangen.networks.bijections import Invertible1x1, Logit, ScaleShift
from pangen.networks.splines import Spline

pytest.importorskip("constriction")

NOISE = np.random.default_rng(1)
KINDS = {
    "bits": (1, 4, 4),
    "grey": (1, 5, 4),
    "colour": (3, 4, 6),
}
TINY = {
    "nice": {"width": 8, "pairs": 2},
    "realnvp": {"width": 8, "pairs": 1},
    "glow": {"width": 8, "steps": 1},
    "maf": {"width": 8, "blocks": 2},
    "nsf": {"width": 8, "blocks": 2, "depth": 1, "bins": 4},
    "tarflow": {"channels": 8, "heads": 2, "blocks": 2, "patch": 2},
    "ddpm": {"width": 8, "chain": 6},
    "vdm": {"width": 8, "chain": 6},
}


@cache
def data(kind, n=60):
    """Pictures that are not quite noise."""
    high = {"bits": 2, "grey": 256, "colour": 40}[kind]
    shape = KINDS[kind]
    x = NOISE.integers(0, high, (n, *shape)).astype(np.uint8)
    return x * 255 if kind == "bits" else x


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A function to a run, hardly trained."""
    folder = tmp_path_factory.mktemp("compression")

    @cache
    def run(model, kind, /, codec=None, labels=False, steps=2, **settings):
        y = np.arange(60) % 3 if labels else None
        recipe = {"training.validations": 1, **{f"model.{k}": v for k, v in (TINY[model] | settings).items()}}
        name = f"{model}-{kind}-{codec}-{labels}-{steps}-{'-'.join(map(str, settings.values()))}"
        return pangen.fit(
            model, data(kind), y, steps=steps, device="cpu", codec=codec, recipe=recipe, out=folder / name
        )

    return run


def npy(x):
    content = io.BytesIO()
    np.save(content, x)
    return content.getvalue()


def there_and_back(run, levels, tmp_path):
    """Arrays of levels to a file and back; returns the report."""
    for i, x in enumerate(levels):
        (tmp_path / f"{i}.npy").write_bytes(npy(x))
    names = [tmp_path / f"{i}.npy" for i in range(len(levels))]
    report = pangen.compress(run, names, tmp_path / "x.pgn")
    assert not report["kept"]
    torch.manual_seed(0)
    pangen.decompress(tmp_path / "x.pgn", tmp_path / "out", run=run)
    for name in names:
        assert (tmp_path / "out" / name.name).read_bytes() == name.read_bytes()
    return report


@pytest.mark.parametrize(
    ("model", "kind", "how"),
    [
        ("nice", "bits", {"codec": "grid"}), ("nice", "grey", {"codec": "dequantise", "base": "mixture"}),
        ("realnvp", "grey", {"codec": "grid", "labels": True}), ("realnvp", "grey", {"codec": "grid", "base": "uniform"}),
        ("glow", "colour", {"codec": "grid", "dequantisation": "uniform"}), ("maf", "bits", {"codec": "dequantise"}),
        ("nsf", "grey", {"codec": "dequantise"}), ("nsf", "bits", {"codec": "dequantise", "kind": "autoregressive"}),
        ("tarflow", "colour", {"codec": "dequantise"}),
        ("ddpm", "bits", {}), ("ddpm", "colour", {"codec": "grid"}),
    ],
)  # fmt: skip
def test_images_come_back(made, tmp_path, model, kind, how):
    """None, one and a few, of levels that the model has never seen too."""
    run = made(model, kind, **how)
    shape, K = KINDS[kind], run.codec.levels
    levels = [np.random.default_rng(0).integers(0, K, (n, *shape)).astype(np.uint8) for n in (0, 1, 5)]
    report = there_and_back(run, levels, tmp_path)
    assert report["values"] == 6 * math.prod(shape)
    assert report["payload"] > report["initial"] > 0


@pytest.mark.parametrize(("model", "codec"), [("glow", "grid"), ("realnvp", "dequantise")])
def test_images_of_convolved_flows_come_back(tmp_path, model, codec):
    """Squeezed at two scales and mixed by channels; codes of which a network tells half."""
    x = NOISE.integers(0, 4, (20, 1, 16, 16)).astype(np.uint8)
    recipe = {f"model.{k}": v for k, v in TINY[model].items()} | {"training.validations": 1}
    recipe |= {"model.pairs": 3} if model == "realnvp" else {}
    run = pangen.fit(model, x, steps=1, device="cpu", codec=codec, recipe=recipe, out=tmp_path / "run")
    there_and_back(run, [x[:2]], tmp_path)


@pytest.mark.parametrize(
    ("model", "how"),
    [
        ("realnvp", {"codec": "grid"}),
        ("ddpm", {}),
        ("vdm", {"chain": 40, "steps": 60}),
    ],
)
def test_size_is_the_bound(made, tmp_path, model, how):
    """Within a percent of its mean over noise, which the file draws once; nearer to the bound of that very draw."""
    run = made(model, "colour", **how)
    raw = np.random.default_rng(2).integers(0, 40, (200, *KINDS["colour"])).astype(np.uint8)
    report = there_and_back(run, [raw], tmp_path)
    bound = np.mean([-float(run.log_prob(torch.from_numpy(raw), seed=s).nats.sum()) for s in range(4)])
    assert report["payload"] > 10_000
    assert (report["payload"] - report["initial"]) / (bound / 8 / math.log(2)) == pytest.approx(1, abs=0.01)
    assert 0.999 < report["over_model"] < 1.005


def test_the_users_threads_do_not_matter(made, tmp_path):
    run, before, written = made("realnvp", "grey", codec="grid"), torch.get_num_threads(), []
    (tmp_path / "x.npy").write_bytes(npy(data("grey")[:5]))
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            torch.manual_seed(n)
            written.append(tmp_path / f"{n}.pgn")
            pangen.compress(run, tmp_path / "x.npy", written[-1])
    finally:
        torch.set_num_threads(before)
    assert written[0].read_bytes() == written[1].read_bytes()


def tape(words=20_000):
    return Tape(Stack(np.random.default_rng(0).integers(0, 2**32, words, dtype=np.uint32), sealed=False))


def content(found):
    return found.stack.ans.get_compressed(unseal=True).tobytes()


def normals(n):
    """Means and deviations in cells, from less than one to very many."""
    generator = torch.Generator().manual_seed(0)
    std = 2 ** (34 * torch.rand(n, generator=generator, dtype=torch.float64) - 2)
    return torch.randn(n, generator=generator, dtype=torch.float64) * 2.0**30, std


@pytest.mark.parametrize("sure", [True, False])
def test_cells_come_back_whatever_their_normals(sure):
    """Those that were drawn, exactly with the bits they were made of; those that are told, wherever they are."""
    (mean, std), one = normals(5000), tape()
    before = content(one)
    cells = one.pop_normal(mean, std, sure=sure)
    e = (cells.double() + 0.5 - mean) / std
    assert e[std > 64].abs().max() < 17
    assert e[std > 64].std() == pytest.approx(1, abs=0.03)
    one.push_normal(cells, mean, std, sure=sure)
    assert content(one) == before
    far = torch.tensor([0, -1, 2**62, -(2**63), 2**63 - 1, 12345])
    one.push_normal(far, *(t[:6] for t in (mean, std)), sure=False)
    assert torch.equal(one.pop_normal(*(t[:6] for t in (mean, std)), sure=False), far)


def test_cells_cost_their_density():
    """Drawn by another normal, each costs the log of its density, to a hundredth of a bit on average."""
    mean, std = normals(20_000)
    std = std.clamp(min=2)
    cells = (
        (mean + 1.3 * std * torch.randn(len(mean), generator=torch.Generator().manual_seed(1))).floor().long()
    )
    one = tape(0)
    one.push_normal(cells, mean, std, sure=False)
    bits = -Normal(mean, std.log()).log_prob((cells.double() + 0.5)[None]).sum() / math.log(2)
    assert one.stack.bits / len(cells) == pytest.approx(float(bits) / len(cells), abs=0.01)


def test_cells_that_a_normal_rules_out_cost_what_the_coder_can_tell():
    """No less than 2^-24 for a step: files of a chain too short for its model are below the bound for that."""
    n, std = 1000, 2.0**12
    mean, far = torch.zeros(n).double(), int(9 * std) + torch.arange(n)
    one = tape(0)
    one.push_normal(far, mean, mean + std, sure=False)
    told = -Normal(mean, (mean + std).log()).log_prob(far.double()[None]).mean() / math.log(2)
    assert one.stack.bits / n == pytest.approx(24 + math.log2(std / PART), abs=0.1)
    assert one.stack.bits / n < told - 20


def test_logistic_cells_come_back_and_cost_their_density():
    one = tape()
    before, start = content(one), one.stack.bits
    w = one.pop_by(logistic, STEPS, BITS, (4000,), sure=True)
    found = units(w)
    assert (start - one.stack.bits) / 4000 == pytest.approx(
        float(-(log_logistic(found) + math.log(CELL)).mean()) / math.log(2), abs=0.01
    )
    assert found.abs().mean() == pytest.approx(2 * math.log(2), abs=0.05)
    one.push_by(w, logistic, STEPS, BITS, sure=True)
    assert content(one) == before
    far = torch.tensor([2**40, -(2**50), 5])
    one.push_by(far, logistic, STEPS, BITS, sure=False)
    assert torch.equal(one.pop_by(logistic, STEPS, BITS, (3,), sure=False), far)


def test_noise_is_normal_even_on_bits_that_are_not_random():
    """What a wrong model has pushed is not; popped by a like distribution it would be what it was."""
    one, n = tape(), 4000
    mean, std = torch.zeros(n).double(), torch.full((n,), 64.0).double()
    wrong = (3 * std * torch.randn(n, generator=torch.Generator().manual_seed(0))).floor().long()
    one.push_normal(wrong, mean, std, sure=False)
    e = (one.pop_normal(mean, std, sure=True) + 0.5) / std
    assert e.std() == pytest.approx(1, abs=0.05)
    assert (e**4).mean() == pytest.approx(3, abs=0.5)


def maps(n):
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(8 * 3 - 1, n, generator=generator).double()
    return {
        "line": Line(raw[0]),
        "affine": Told(ScaleShift(), raw[:2]),
        "spline": Told(Spline(8), raw),
        "fill": Fill((raw[0].abs() * 3).long().clamp(max=9), 10, 0.05),
    }


@pytest.mark.parametrize("name", ["line", "affine", "spline", "fill"])
def test_a_step_gives_the_slope_and_comes_back(name):
    """On average log f' for each number, to a few thousandths of a nat, and every bit when it is undone."""
    n = 20_000
    f, one = maps(n)[name], tape(40_000)
    x = (torch.randn(n, generator=torch.Generator().manual_seed(1)).double() / CELL).floor().long()
    before, start = content(one), one.stack.bits
    walk = Walk(one, ahead=True)
    y = walk.step(x, f)
    gained = (start - one.stack.bits) * math.log(2) / n
    exact, slope = f.forward(units(x))
    assert gained == pytest.approx(float(slope.mean()), abs=0.01)
    assert walk.log_det == pytest.approx(float(slope.sum()))
    assert ((units(y) - exact).abs() < 1e-4 + 0.02 * slope.exp()).all()
    assert torch.equal(Walk(one, ahead=False).step(y, f), x)
    assert content(one) == before


@pytest.mark.parametrize("start", ["rotation", "permutation"])
def test_a_matrix_is_a_diagonal_and_two_exact_shears(start):
    t = Invertible1x1(5, start=start).double()
    with torch.no_grad():
        for p in t.parameters():
            p += 0.3 * torch.randn_like(p)
        x = (torch.randn(7, 5, 2, 3).double() / CELL).floor().long()
        one = tape()
        before = content(one)
        z = Walk(one, ahead=True).through(t, x, None)
        assert (units(z) - t(units(x))[0]).abs().max() < 0.1
        assert torch.equal(Walk(one, ahead=False).through(t, z, None), x)
    assert content(one) == before
    assert walkable(t)
    assert not walkable(Logit())


def test_networks_see_as_many_rows_as_ever():
    assert real(torch.zeros(3, 2).long()).shape == (64, 2)


@pytest.mark.parametrize("model", ["realnvp", "ddpm"])
def test_a_payload_made_up_is_refused(made, tmp_path, model):
    from pangen.compression import container

    run, path = made(model, "grey", codec="grid"), tmp_path / "x.pgn"
    (tmp_path / "x.npy").write_bytes(npy(data("grey")[:4]))
    pangen.compress(run, tmp_path / "x.npy", path)
    header, payload, aside = container.read_container(path)
    noise = np.random.default_rng(0).integers(0, 2**32, len(payload), dtype=np.uint32)
    for words in (noise, noise * 0, payload[:-1], payload[:3]):
        path.write_bytes(container.Container(header, words, aside).to_bytes())
        with pytest.raises(pangen.PangenError, match=r"does not come back|do not fit together"):
            pangen.decompress(path, tmp_path / "refused", run=run)
        assert not (tmp_path / "refused").exists()


def test_a_model_that_has_no_numbers_says_so(made, tmp_path):
    run = made("realnvp", "bits", codec="grid")
    with torch.no_grad():
        next(run.model.flow.transform.parameters()).fill_(math.nan)
    (tmp_path / "x.npy").write_bytes(npy(data("bits")[:2] // 255))
    with pytest.raises(pangen.PangenError, match="no finite numbers"):
        pangen.compress(run, tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("model", "codec", "recipe", "match"),
    [
        ("flow-matching", "grid", {"model.width": 8}, "no bound over steps"),
        ("ffjord", "dequantise", {"model.width": 8}, "maps of single numbers"),
        ("masked-diffusion", "levels", {"model.width": 8, "model.heads": 2}, "random orders"),
    ],
)
def test_what_is_missing_is_said(tmp_path, model, codec, recipe, match):
    recipe = {**recipe, "training.validations": 1}
    run = pangen.fit(
        model, data("bits"), steps=1, device="cpu", codec=codec, recipe=recipe, out=tmp_path / "run"
    )
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(pangen.PangenError, match=match):
        pangen.compress(run, tmp_path / "x")
