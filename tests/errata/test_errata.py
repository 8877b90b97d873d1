"""Each mistake does the damage that is said, the right way does none, and the page tells what is found here."""

from __future__ import annotations

import pytest
from mistake import MISTAKES
from page import PAGE, numbers, printed, section

every_mistake = pytest.mark.parametrize("number", range(1, 26), scope="module")
"""Its tests come after each other, in the process that has measured it."""


@every_mistake
def test_the_damage_and_the_right_way(number):
    for damage in MISTAKES[number].measure():
        assert damage.proven, damage


@every_mistake
def test_the_page_tells_it(number):
    """`python tests/errata/page.py` brings it up to date; numbers may differ in their last digits between machines."""
    text = PAGE.read_text()
    assert section(MISTAKES[number]).partition("| measured")[0] in text
    rows = numbers(text)[number]
    for (measure, *told), damage in zip(rows, MISTAKES[number].measure(), strict=True):
        assert measure == damage.measure
        for shown, value in zip(told, (damage.wrong, damage.right), strict=True):
            if isinstance(value, str):
                assert shown == printed(value)
            else:
                assert float(shown) == pytest.approx(value, rel=0.05, abs=1e-3)
