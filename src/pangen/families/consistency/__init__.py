"""Models that undo noise in one step."""
