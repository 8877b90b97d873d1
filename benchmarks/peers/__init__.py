"""Peers that Pangen is timed beside, a file for each kind of model; `benchmarks/peers.py` runs them."""
