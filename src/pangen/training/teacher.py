"""A model that learns from another: its teacher is a run, loaded frozen, and no part of its weights."""

from __future__ import annotations

import torch

from pangen.codecs import Codec
from pangen.errors import PangenError
from pangen.model import GenerativeModel
from pangen.run import load_run


def teach(model: GenerativeModel, codec: Codec, dtype: str) -> None:
    """Show a model its teacher, if its recipe names one.

    Raises:
        PangenError: there is no such run, or it sees the data in other coordinates.
    """
    if not model.teacher:
        return
    teacher = load_run(model.teacher, device="cpu")
    if teacher.codec != codec:
        raise PangenError(
            f"the teacher {model.teacher} learnt other data than these, or behind another codec; "
            "fit on the data it was trained on, with its labels and its codec."
        )
    model.learn_from(teacher.model.to(model.device, getattr(torch, dtype)).requires_grad_(False))
