"""`pangen verify`: what holds, what does not, and what it refuses."""

from __future__ import annotations

import json

import pytest


def test_a_comparison_is_verified_and_a_forged_number_found(pangen, here, quick_features):
    assert pangen("compare", "digits", "--models", "independent", "-o", "c").code == 0
    outcome = pangen("verify", "c/report.html", "--rows", "independent")
    assert outcome.code == 0, outcome.err
    assert "independent-0  holds: " in outcome.out
    kept = json.loads((here / "c/compare.json").read_text())
    kept["rows"][0]["near_copies"] |= {"value": 0.9, "interval": [0.9, 0.9]}
    (here / "c/compare.json").write_text(json.dumps(kept))
    outcome = pangen("verify", "c", "--rows", "independent-0")
    assert outcome.code == 1
    assert "does not hold" in outcome.out
    assert "near_copies was 0.9, is " in outcome.out
    merged = pangen("verify", "--merge", "c", "c/verified.jsonl", "-o", "all.jsonl", "--json").json
    assert merged["repeated"] == merged["identical"] > 10


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("nowhere",), "is no comparison"),
        (("a", "b"), "one comparison is verified at a time"),
        (("a", "-o", "b"), "-o names the ledger that --merge makes"),
        (("--merge", "a"), "--merge needs -o FILE"),
        (("--merge", "a", "-o", "b", "--rows", "x"), "leave one out"),
        (("--merge", "a", "-o", "b"), "a is missing"),
    ],
)
def test_mistakes_are_one_sentence(pangen, here, argv, message):
    outcome = pangen("verify", *argv)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
