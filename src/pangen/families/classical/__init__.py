"""Baselines that every deep model has to beat."""
