"""What a trained run is good for, each task written against a capability."""

from pangen.tasks.latent import decode, encode, interpolate, reconstruct

__all__ = ["decode", "encode", "interpolate", "reconstruct"]
