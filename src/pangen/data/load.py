"""Loading data by name or path. (Being written.)"""

from typing import Any

from pangen.data.dataset import Data


def load_data(name: str, **options: Any) -> Data:
    from pangen.data.embedded import digits

    return digits()


def memory_data(x: Any, y: Any = None) -> Data:
    raise NotImplementedError
