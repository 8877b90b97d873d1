"""Invertible maps with an exact density."""
