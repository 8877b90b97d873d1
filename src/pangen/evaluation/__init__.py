"""How good a model is: likelihood, fidelity, diversity, memorisation, cost. (Being written.)"""

from typing import Any


def evaluate(*args: Any, **how: Any) -> Any:
    raise NotImplementedError


def compare(*args: Any, **how: Any) -> Any:
    raise NotImplementedError
