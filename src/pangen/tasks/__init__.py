"""What a trained run is good for, each task written against a capability."""

from pangen.tasks.average import average
from pangen.tasks.classify import classify
from pangen.tasks.convert import convert
from pangen.tasks.fill import fill
from pangen.tasks.forecast import forecast, score_forecasts
from pangen.tasks.latent import decode, encode, interpolate, reconstruct
from pangen.tasks.text import complete, stream
from pangen.tasks.translate import translate

__all__ = [
    "average",
    "classify",
    "complete",
    "convert",
    "decode",
    "encode",
    "fill",
    "forecast",
    "interpolate",
    "reconstruct",
    "score_forecasts",
    "stream",
    "translate",
]
