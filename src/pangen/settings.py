"""Numbers that a model's settings are: a recipe whose value is out of range is refused before any work."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le

MOST = 10**6
"""What is counted is made one by one."""
Count = Annotated[int, Ge(1), Le(MOST)]
Natural = Annotated[int, Ge(0), Le(MOST)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
Fraction = Annotated[float, Gt(0), Le(1)]
