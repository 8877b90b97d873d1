"""Bijections with log-determinants, told a context: what normalizing flows are made of.

A flow is a base density and a `Transform` x -> z: log p(x) = log p_base(z) + log|det dz/dx|.
"""

from pangen.networks.bijections.bases import BaseDensity, BaseName, make_base
from pangen.networks.bijections.couplings import Coupling, MaskedCoupling, Sorted, flat_coupling, flat_pair
from pangen.networks.bijections.dequantise import Dequantisation, Dequantiser
from pangen.networks.bijections.elementwise import Additive, Affine, Elementwise, ScaleShift
from pangen.networks.bijections.flow import Flow
from pangen.networks.bijections.images import (
    Flatten,
    Invertible1x1,
    OnHalf,
    Squeeze,
    Through,
    at_scale,
    halvings,
    scaled_shape,
)
from pangen.networks.bijections.masks import checkerboard, halves, mask_pairs, stripes
from pangen.networks.bijections.nets import ConvNet, FlatNet, images_last, parameters_first
from pangen.networks.bijections.transforms import (
    Compose,
    Inverse,
    Logit,
    Rearrangement,
    Scale,
    Shift,
    Sigmoid,
    Transform,
    actnorm,
)

__all__ = [
    "Additive",
    "Affine",
    "BaseDensity",
    "BaseName",
    "Compose",
    "ConvNet",
    "Coupling",
    "Dequantisation",
    "Dequantiser",
    "Elementwise",
    "FlatNet",
    "Flatten",
    "Flow",
    "Inverse",
    "Invertible1x1",
    "Logit",
    "MaskedCoupling",
    "OnHalf",
    "Rearrangement",
    "Scale",
    "ScaleShift",
    "Shift",
    "Sigmoid",
    "Sorted",
    "Squeeze",
    "Through",
    "Transform",
    "actnorm",
    "at_scale",
    "checkerboard",
    "flat_coupling",
    "flat_pair",
    "halves",
    "halvings",
    "images_last",
    "make_base",
    "mask_pairs",
    "parameters_first",
    "scaled_shape",
    "stripes",
]
