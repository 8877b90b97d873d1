"""Accuracy, log loss and calibration against counts by hand and laws that are known."""

from __future__ import annotations

import math

import pytest
import torch

from pangen.evaluation.classification import scores


def test_scores_by_hand():
    p = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    found = scores(p.log(), torch.tensor([0, 1, 1, 1]), "hand")
    assert found["accuracy"]["value"] == 0.75
    expected = -(math.log(0.9) + math.log(0.1) + math.log(0.6) + math.log(0.7)) / 4
    assert found["log_loss"]["value"] == pytest.approx(expected)
    # bins: two examples said 0.9 and one right; one of 0.6, right; one of 0.7, right
    assert found["calibration_error"]["value"] == pytest.approx((2 * 0.4 + 0.4 + 0.3) / 4, abs=1e-6)
    assert sum(row["samples"] for row in found["reliability"]) == 4


def test_what_is_calibrated_is_found_so_and_what_is_not_is_not():
    """Labels drawn from the probabilities; then the same probabilities, sharpened."""
    generator = torch.Generator().manual_seed(0)
    log_p = (1.5 * torch.randn(20_000, 4, generator=generator)).log_softmax(1)
    y = torch.multinomial(log_p.exp(), 1, generator=generator)[:, 0]
    honest, proud = scores(log_p, y, "a"), scores((3 * log_p).log_softmax(1), y, "a")
    # in each of 15 bins an error of about 1 / sqrt(n)
    assert honest["calibration_error"]["value"] < (15 / 20_000) ** 0.5
    assert proud["calibration_error"]["interval"][0] > 0.1
    assert honest["accuracy"]["value"] == proud["accuracy"]["value"]
    assert honest["log_loss"]["value"] < proud["log_loss"]["value"]
    low, high = honest["log_loss"]["interval"]
    entropy = -float((log_p.exp() * log_p).sum(1).mean())
    assert low - 0.01 < entropy < high + 0.01
