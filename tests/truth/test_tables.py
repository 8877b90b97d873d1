"""Tables: a network's entropy and marginals by quadrature, tokens and back, and densities that sum to one."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import pytest
import torch

import pangen
from pangen.codecs import Cells
from pangen.data.dataset import Column, Data, Split
from pangen.data.known_truth import KNOWN_TRUTH
from pangen.data.known_truth.tables import Network
from pangen.errors import PangenError
from pangen.rng import generator


def grid(law: Network) -> list[tuple[torch.Tensor, float]]:
    """Sizes and weights, missing or on a grid, and the area of its cells.

    Steps of a standard deviation leave an error of 2 e^-20 (Poisson's sum formula); eight of them reach far enough.
    """
    far = law.slope * law.std + law.noise
    ends = [
        ((law.mean - 8 * law.std).min(), (law.mean + 8 * law.std).max(), law.std.min()),
        (law.offset.min() - 8 * law.noise, law.offset.max() + 8 * law.noise, law.noise),
        (
            (law.slope * law.mean - 8 * far).min() + law.offset.min(),
            (law.slope * law.mean + 8 * far).max() + law.offset.max(),
            law.noise,
        ),
    ]
    size, rest, weight = (torch.arange(*map(float, end), dtype=torch.float64) for end in ends)
    steps = float(law.std.min()), law.noise
    both = torch.cartesian_prod(size, rest)
    both[:, 1] += law.slope * both[:, 0]
    nan = torch.tensor(math.nan, dtype=torch.float64)
    return [
        (torch.stack([nan, nan])[None], 1.0),
        (torch.stack([size, nan.expand_as(size)], 1), steps[0]),
        (torch.stack([nan.expand_as(weight), weight], 1), steps[1]),
        (both, steps[0] * steps[1]),
    ]


@pytest.mark.parametrize("name", ["orchard", "survey"])
def test_a_network_s_probabilities_sum_to_one_and_to_its_entropy(name):
    law = KNOWN_TRUTH[name]()
    mass = entropy = 0.0
    options = [[*range(n), math.nan] for n in law.joint.shape]
    for cells in itertools.product(options[0][:-1], *options[1:]):
        for numbers, area in grid(law):
            x = torch.cat([torch.tensor(cells).double().expand(len(numbers), -1), numbers], 1)
            p = law.log_prob(x).exp()
            mass += float(p.sum()) * area
            entropy -= float(torch.xlogy(p, p).sum()) * area
    assert mass == pytest.approx(1, abs=1e-7)
    assert entropy == pytest.approx(law.entropy, abs=1e-6)


def test_what_is_seen_of_a_row_has_the_sum_over_the_rest():
    law = KNOWN_TRUTH["survey"]()
    x = law.sample(30, generator("cpu", "seen")).double()
    grades = [x.clone() for _ in range(4)]
    for value, copy in zip((0.0, 1.0, 2.0, math.nan), grades, strict=True):
        copy[:, 1] = value
    sums = torch.stack([law.log_prob(copy) for copy in grades]).logsumexp(0)
    seen = torch.tensor([True, False, True, True, True])
    assert torch.allclose(law.log_prob(x, seen), sums, atol=1e-12)
    seen = torch.tensor([True, True, True, True, False])
    numbers = torch.arange(-150.0, 200.0, 3.0, dtype=torch.float64)
    for row in x[:5]:
        every = row.repeat(len(numbers) + 1, 1)
        every[:, 4] = torch.cat([numbers, torch.tensor([math.nan])])
        p = law.log_prob(every).exp()
        mass = float(3 * p[:-1].sum() + p[-1])
        assert float(law.log_prob(row[None], seen)) == pytest.approx(math.log(mass), abs=1e-7)
    assert law.log_prob(torch.tensor([[0.0, 3.0, 0.0, 40.0, 10.0]])).item() == -math.inf
    assert law.mode(torch.tensor([[math.nan, 0.0, 0.0, 40.0, 10.0]])).item() == -1  # a kind is never missing


TABLE = (Column("kind", ("p", "q", "r")), Column("count", points=(-1.0, 0.5)), Column("length"))


def rows(n: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    kind, count = torch.randint(3, (n,), generator=g), torch.randint(2, (n,), generator=g)
    length = torch.randn(n, generator=g).exp() + kind
    x = torch.stack([kind, 1.5 * count - 1, length], 1)
    return torch.where(torch.rand(n, 3, generator=g) < 0.2, math.nan, x)


@pytest.fixture(scope="module")
def data() -> Data:
    return Data("rows", "table", *(Split(rows(n, n)) for n in (400, 60, 61)), table=TABLE)


def test_cells_come_back_from_their_tokens(data):
    codec = Cells.fit(data, bins=8)
    assert codec.data_space.levels == 9
    every = torch.cartesian_prod(torch.arange(4), torch.arange(3), torch.arange(9))
    for noise in (None, generator("cpu", "cells")):
        raw = codec.decode(every, generator=noise)
        assert torch.equal(codec.encode(raw).x, every)
        assert torch.equal(raw.isnan(), every == 0)
    strange = codec.decode(torch.tensor([[8, 8, 8]]))  # tokens that two of the columns do not have
    assert strange[0, :2].tolist() == [2.0, 0.5]
    with pytest.raises(PangenError, match="row 1 has 7 in the column 'count'"):
        codec.encode(torch.tensor([[0.0, 0.5, 1.0], [0.0, 7.0, 1.0]]))


def test_a_model_of_cells_is_a_density_of_rows(data):
    """Over words, values, gaps and lengths it sums to one, less what tokens have that a column does not."""
    run = pangen.fit("independent", data, device="cpu", recipe={"codec.bins": 8})
    step = 0.01
    length = torch.arange(-40, 80, step, dtype=torch.float64).float() + step / 2
    mass = 0.0
    for column, values in enumerate(([0, 1, 2, math.nan], [-1.0, 0.5, math.nan], length)):
        x = torch.full((len(values), 3), math.nan)
        x[:, column] = torch.as_tensor(values)
        gap = torch.full((1, 3), math.nan)
        p = (
            run.log_prob(x).nats - run.log_prob(gap).nats
        ).exp()  # columns are independent: of this one alone
        total = float(p.sum()) if column < 2 else float(p.sum()) * step + 1
        lost = run.model.log_p[0, column].exp()[[4, 3, 9][column] :].sum()
        mass = total * float(run.model.log_p[0, column, 0].exp())
        assert mass == pytest.approx(1 - float(lost), abs=2e-3)  # an edge of a bin within a step of the sum


def test_a_table_is_read_modelled_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pangen.cli.main import main

    path = tmp_path / "t.csv"
    lines = [",".join("" if v != v else f"{v:g}" for v in row) for row in rows(300)[:, 1:].tolist()]
    words = ["NA", "red", "blue, or not"]
    path.write_text(
        "colour;count;length\n"
        + "\n".join(f"{words[i % 3]};{line.replace(',', ';')}" for i, line in enumerate(lines))
    )
    data = pangen.load_data(path)
    assert (data.modality, data.shape) == ("table", (3,))
    assert data.table == (
        Column("colour", ("blue, or not", "red")),
        Column("count", points=(-1.0, 0.5), decimals=1),
        Column("length"),
    )
    assert main(["fit", "made", str(path), "--steps", "3", "-o", str(tmp_path / "run")]) == 0
    assert main(["sample", str(tmp_path / "run"), "-n", "40", "-o", str(tmp_path / "s.csv")]) == 0
    again = pangen.load_data(tmp_path / "s.csv")
    assert [column.name for column in again.table] == ["colour", "count", "length"]
    capsys.readouterr()
    assert main(["data", str(path)]) == 0
    shown = capsys.readouterr().out
    for text in ("2 words: blue, or not, red; 33.3 % missing", "2 values: -1, 0.5", "numbers from"):
        assert text in shown
    other = tmp_path / "other.csv"
    other.write_text(path.read_text().replace("red", "green"))
    with pytest.raises(
        PangenError, match=r"column 'colour' of 'blue, or not', 'red'; .* of 'blue, or not', 'green' there"
    ):
        pangen.evaluate(tmp_path / "run", other)
    assert main(["sample", str(tmp_path / "run"), "-o", str(tmp_path / "s.png")]) == 2
    assert "ends in .npy or .csv" in capsys.readouterr().err


def test_numbers_are_written_with_the_decimals_of_their_column(tmp_path: Path) -> None:
    from pangen.cli.main import main

    path, values = tmp_path / "t.csv", 30 * torch.randn(300, 3, generator=generator("cpu", "decimals"))
    lines = [f"{'red' if a > 0 else 'blue'},{a:.0f},{b:.2f},{c:.6f}" for a, b, c in values.tolist()]
    path.write_text("colour,whole,price,length\n" + "\n".join(lines) + "\n")
    data = pangen.load_data(path)
    assert [column.decimals for column in data.table] == [None, 0, 2, None]
    assert ",".join(data.table[i].cell(v) for i, v in enumerate([1, -0.4, -0.004, 0.5])) == "red,0,0.00,0.5"
    assert main(["fit", "independent", str(path), "-o", str(tmp_path / "run")]) == 0
    assert main(["sample", str(tmp_path / "run"), "-n", "200", "-o", str(tmp_path / "s.csv")]) == 0
    drawn = [line.split(",") for line in (tmp_path / "s.csv").read_text().splitlines()[1:]]
    for column, form in enumerate((r"red|blue", r"-?\d+", r"-?\d+\.\d\d")):
        assert all(re.fullmatch(form, row[column]) for row in drawn)
    assert max(len(row[3].partition(".")[2]) for row in drawn) > 4
    again = pangen.load_data(tmp_path / "s.csv")
    assert [column.decimals for column in again.table] == [None, 0, 2, None]
