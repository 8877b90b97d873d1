"""Products of conditionals."""
