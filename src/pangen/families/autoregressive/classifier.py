"""What classifiers share: p(y given x) alone, the other half of p(x, y) = p(x) p(y given x)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from pangen.errors import PangenError
from pangen.model import GenerativeModel
from pangen.networks.linear import Linear
from pangen.space import Batch, Loss, Progress, Space


class Classifier(GenerativeModel):
    """A model of its paper gives the features; a linear layer reads the class from them.

    Args:
        features: numbers in them.
        smoothing: share of a label's probability that is given to all classes alike (Szegedy et al. 2016).
    """

    selection = "loss"
    training_defaults: ClassVar[dict[str, Any]] = {
        "lr": 1e-3,
        "weight_decay": 0.05,
        "warmup": 20,
        "ema": 0.99,
    }

    def __init__(self, space: Space, *, features: int, smoothing: float) -> None:
        super().__init__(space)
        if not space.classes:
            raise PangenError(
                "a classifier learns labels from examples, and these have none; give labelled data."
            )
        self.smoothing = smoothing
        self.head = Linear(features, space.classes)

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """What is known of each example before its class `(B, features)`."""

    def pixels(self, x: Tensor) -> Tensor:
        """From -1 to 1."""
        return 2 * x - 1 if self.space.kind == "binary" else x

    def classify(self, x: Tensor) -> Tensor:
        """log p(y given x) `(B, classes)`."""
        return self.head(self.features(x)).log_softmax(1)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        if batch.y is None:
            raise PangenError("a classifier learns labels from examples, and these have none.")
        logits = self.head(self.features(batch.x))
        right = (logits.argmax(1) == batch.y).float().mean()
        smoothing = self.smoothing if self.training else 0.0
        return Loss(cross_entropy(logits, batch.y, label_smoothing=smoothing), {"accuracy": right})
