"""The ledger says how to get a number again, and `verify` gets it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluation_fakes import image_data, quick_fakes

import pangen
from pangen.errors import PangenError
from pangen.evaluation import compare, merge_ledgers, verify
from pangen.evaluation.ledger import agree, read_ledger

pytestmark = pytest.mark.usefixtures("quick_features")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("verify") / "rows"
    with quick_fakes():
        compare(image_data(), "mean,broken", steps=5, samples=50, out=out, device="cpu")
    return out


def test_a_line_has_all_that_a_number_needs(folder: Path) -> None:
    lines = read_ledger(folder)
    frechet = next(line for line in lines if line["model"] == "mean" and line.get("measure") == "frechet")
    low, high = frechet["interval"]
    assert low <= frechet["value"] <= high
    assert frechet["fingerprint"] == image_data().fingerprint
    assert (frechet["seed"], frechet["training_steps"], frechet["data"]) == (0, 5, "rows")
    assert frechet["machine"]["pangen"] == pangen.__version__
    assert frechet["command"].startswith("pangen compare rows --models mean,broken --steps 5")
    assert "--samples 50" in frechet["command"]
    assert frechet["protocol"]["samples"] == 50
    assert frechet["reference_hash"] == frechet["protocol"]["reference_hash"]
    assert next(line["failed"] for line in lines if "failed" in line).startswith("the loss")
    assert {line["model"] for line in lines if line["family"] == "yardstick"} >= {"noise"}


def test_numbers_come_out_again_and_a_changed_one_does_not(folder: Path, tmp_path: Path) -> None:
    found = verify(folder / "report.html", ["mean", "noise"], data=image_data(), device="cpu")
    assert found["holds"]
    assert [(row["row"], row["within"], row["apart"]) for row in found["rows"]] == [
        ("mean-0", 0, []), ("noise", 0, []),
    ]  # fmt: skip
    kept = (folder / "compare.json").read_text()
    told: dict[str, Any] = json.loads(kept)
    told["rows"][0]["fidelity"]["frechet"] |= {"value": 1e6, "interval": [1e6, 1e6]}
    (folder / "compare.json").write_text(json.dumps(told))
    try:
        found = verify(folder, ["mean-0"], data=image_data(), device="cpu")
    finally:
        (folder / "compare.json").write_text(kept)
    assert not found["holds"]
    assert [line["measure"] for line in found["rows"][0]["apart"]] == ["frechet"]


def test_what_cannot_be_verified_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PangenError, match="is no comparison"):
        verify(tmp_path)
    with pytest.raises(PangenError, match="did you mean 'mean'"):
        verify(folder, ["maen"], data=image_data())
    other = image_data()
    with pytest.raises(PangenError, match="has changed since"):
        verify(folder, data=replace(other, test=other.test.first(80)))


def test_numbers_agree_exactly_or_within_either_interval() -> None:
    one = {"value": 1.0, "interval": [0.9, 1.1]}
    assert agree(one, {"value": 1.0}) == "identical"
    assert agree(one, {"value": 1.05}) == "within"
    assert agree({"value": 1.05}, one) == "within"
    assert agree(one, {"value": 1.2, "interval": [1.15, 1.3]}) == "apart"
    assert agree({"value": 2.0, "stderr": 0.1}, {"value": 2.1}) == "within"
    assert agree({"value": 2.0}, {"value": 2.1}) == "apart"


def test_ledgers_merge_and_tell_where_they_differ(folder: Path, tmp_path: Path) -> None:
    lines = read_ledger(folder)
    there = tmp_path / "there.jsonl"
    changed = [{**line, "machine": {"processor": "another"}} for line in lines if "value" in line]
    index = next(
        i for i, line in enumerate(changed) if (line["model"], line["measure"]) == ("mean", "frechet")
    )
    changed[index] = {**changed[index], "value": 1e6, "interval": [1e6, 1e6]}
    there.write_text("".join(json.dumps(line) + "\n" for line in changed))
    found = merge_ledgers([folder, folder, there], tmp_path / "one.jsonl")
    assert found["lines"] == len(lines) + len(changed)  # a line is there once
    assert len(read_ledger(tmp_path / "one.jsonl")) == found["lines"]
    assert found["repeated"] == found["identical"] + 1
    assert [(line["model"], line["measure"]) for line in found["apart"]] == [("mean", "frechet")]
    (tmp_path / "bad.jsonl").write_text("[1]\n")
    with pytest.raises(PangenError, match="is no ledger"):
        merge_ledgers([tmp_path / "bad.jsonl"], tmp_path / "two.jsonl")
