"""The files of a run's folder."""

from __future__ import annotations

RECIPE, CODEC, CARD = "recipe.json", "codec.json", "card.json"
WEIGHTS, METRICS = "weights.safetensors", "metrics.jsonl"
CHECKPOINT, BEFORE = "checkpoint.safetensors", "checkpoint-before.safetensors"
"""The latest state of a training, and the one before it, should the latest be damaged."""
PARTS, PARTS_BEFORE = "checkpoint", "checkpoint-before"
"""The same as folders, where a training is spread over its processes."""
