"""Models with a hidden cause for each example."""
