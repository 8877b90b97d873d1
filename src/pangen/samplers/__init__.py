"""Samplers: pure functions of one capability."""
