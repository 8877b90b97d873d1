"""Series: what is read as one, that time order decides the splits, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pangen.data import load_data
from pangen.data.series import Clock, read_series
from pangen.errors import PangenError

RNG = np.random.default_rng(0)
WALK = RNG.normal(size=(200, 2)).cumsum(0).astype(np.float32)
HOURS = [
    str(np.datetime64("2024-02-28T22:00") + np.timedelta64(i, "h")).replace("T", " ") for i in range(200)
]


def table(path: Path, times: list[str] | None = None, values: np.ndarray = WALK) -> Path:
    header = ["time", "a", "b"][times is None :]
    rows = [
        ",".join([*([times[i]] if times else []), *map(str, row)]) for i, row in enumerate(values.tolist())
    ]
    path.write_text("\n".join([",".join(header), *rows]) + "\n")
    return path


def test_splits_are_in_time_order_and_share_no_step(tmp_path):
    data = load_data(table(tmp_path / "t.csv", HOURS), series=True, window=8)
    assert (data.modality, data.shape, data.series.columns) == ("series", (2, 8), ("a", "b"))
    assert np.array_equal(data.series.values.numpy(), WALK.T)
    assert data.series.ends == (120, 160, 200)
    values = torch.from_numpy(WALK.T)
    assert torch.equal(data.train.x, values[:, :120].unfold(1, 8, 1).movedim(0, 1))  # at every step
    for split, start in ((data.validation, 120), (data.test, 160)):
        assert len(split) >= 10  # (40 - 8) // 9 = 3 steps apart
        assert torch.equal(split.x, values[:, start : start + 40].unfold(1, 8, 3).movedim(0, 1))
    assert all("overlap" in note for note in data.notes)
    again = load_data(data.name, **json.loads(json.dumps(dict(data.options))))
    assert again.fingerprint == data.fingerprint


def test_held_out_windows_of_a_long_series_stand_side_by_side(tmp_path):
    np.save(tmp_path / "x.npy", RNG.normal(size=1000))
    data = load_data(tmp_path / "x.npy", series=True, window=20)
    assert (len(data.train), len(data.validation), len(data.test), data.notes) == (581, 10, 10, ())
    assert torch.equal(data.test.x.flatten(), data.series.values[0, 800:])


def test_one_column_by_name_or_index_and_any_window(tmp_path):
    path = table(tmp_path / "t.csv", HOURS)
    one, other = (load_data(path, series=True, window=64 // 8, column=column) for column in ("b", "2"))
    assert one.series.columns == other.series.columns == ("b",)
    assert one.fingerprint == other.fingerprint
    np.save(tmp_path / "x.npy", np.tile(WALK, (4, 1)))
    assert load_data(tmp_path / "x.npy", series=True, window=64).options == {"series": True, "window": 64}


def test_rows_in_time_order_stay_examples_without_a_window(tmp_path):
    data = load_data(table(tmp_path / "t.csv"), series=True)
    assert (data.modality, len(data.train)) == ("vector", 160)
    assert np.array_equal(data.test.x.numpy(), WALK[180:])


@pytest.mark.parametrize(
    ("times", "then"),
    [
        (HOURS, "2024-03-08 06:00:00"),
        ([t.replace("-", "/") for t in HOURS], "2024-03-08 06:00:00"),
        ([str(np.datetime64("2024-02-28") + i) for i in range(200)], "2024-09-15"),
        ([str(np.datetime64("1999-11", "M") + i) for i in range(200)], "2016-07-01"),
        ([str(np.datetime64("1999-11", "M") + 3 * i) + "-15" for i in range(200)], "2049-11-15"),
        (list(map(str, range(1800, 2000))), "2000"),
        ([f"{0.5 * i}" for i in range(200)], "100"),
    ],
)
def test_times_go_on_as_they_came(tmp_path, times, then):
    series = read_series(table(tmp_path / "t.csv", times))
    assert series.clock.at(200) == then
    assert series.columns == ("a", "b")


def test_rows_without_times_are_counted(tmp_path):
    series = read_series(table(tmp_path / "t.csv"))
    assert (series.clock, series.clock.at(200)) == (Clock(), "200")


GAP = [*HOURS[:50], *HOURS[51:], "2024-03-09 00:00"]
FLAT = np.stack([WALK[:, 0], np.ones(200, np.float32)], 1)
BAD = {
    "window without order": ({"window": 8}, HOURS, WALK, "time order 'series'"),
    "labels": ({"series": True, "window": 8, "target": "a"}, None, WALK, "no labels 'target' 'window'"),
    "column without window": ({"series": True, "column": "a"}, None, WALK, "'series' 'window' 'column'"),
    "times without series": ({}, HOURS, WALK, "'time' --series --window"),
    "misspelt column": ({"series": True, "window": 8, "column": "bb"}, HOURS, WALK, "'bb' 'b'"),
    "the times as values": ({"series": True, "window": 8, "column": "time"}, HOURS, WALK, "'time' holds the times"),
    "an hour missing": ({"series": True, "window": 8}, GAP, WALK, "evenly line 52 '2024-03-01 01:00'"),
    "no times": ({"series": True, "window": 8}, ["1/2/2024", *HOURS[1:]], WALK, "'time' '1/2/2024' line 2"),
    "constant": ({"series": True, "window": 8}, HOURS, FLAT, "'b' constant at 1;"),
    "long window": ({"series": True, "window": 40}, HOURS, WALK, "200 steps 40 windows 2 to 39"),
    "short window": ({"series": True, "window": 1}, HOURS, WALK, "windows of 1 2 to"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case, tmp_path):
    options, times, values, words = BAD[case]
    with pytest.raises(PangenError) as raised:
        load_data(table(tmp_path / "t.csv", times, values), **options)
    message = str(raised.value)
    assert "\n" not in message
    assert message[-1] in ".?"
    for word in words.split():
        assert word in message, message


def test_a_gap_and_an_array_of_another_kind_are_named(tmp_path):
    path = table(tmp_path / "t.csv", HOURS)
    lines = path.read_text().splitlines()
    lines[30] = lines[30].rsplit(",", 1)[0] + ","
    path.write_text("\n".join(lines))
    with pytest.raises(PangenError, match=r"column 'b' has a gap in line 31; fill it in"):
        load_data(path, series=True, window=8)
    np.save(tmp_path / "x.npy", np.zeros((3, 4, 5)))
    with pytest.raises(PangenError, match=r"shape \(3, 4, 5\); a series is numbers"):
        load_data(tmp_path / "x.npy", series=True, window=8)
    np.save(tmp_path / "x.npy", np.arange(100.0))
    with pytest.raises(PangenError, match="take `series` and `window`"):
        load_data(tmp_path / "x.npy", series=True)


def test_ett_is_twelve_four_and_four_months():
    if not (Path(os.environ.get("PANGEN_DATA", "nowhere")) / "ett").is_dir():
        pytest.skip("PANGEN_DATA holds no ett")
    data = load_data("ett")
    assert (data.series.columns, data.shape) == (("OT",), (1, 192))
    assert data.series.ends == (8640, 11520, 14400)
    assert data.series.clock.at(8640) == "2017-06-26 00:00:00"
    assert load_data("ett-h2", window=48, column="HUFL").shape == (1, 48)
