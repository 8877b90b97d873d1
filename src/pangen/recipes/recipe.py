"""A recipe: data + codec + model + training, as one Python value that is JSON and back."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, make_dataclass, replace
from functools import cache
from itertools import count
from threading import get_ident
from typing import Any, Literal, TypeVar, dataclass_transform, get_type_hints

import pydantic

from pangen.errors import PangenError, unknown
from pangen.limits import PARTS
from pangen.memory import free_memory, gibibytes
from pangen.precision import Precision, precision
from pangen.registry import Entry, get
from pangen.settings import MOST

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def config(cls: type[T]) -> type[T]:
    """A frozen dataclass that refuses unknown fields when validated."""
    cls.__pydantic_config__ = pydantic.ConfigDict(extra="forbid")  # type: ignore[attr-defined]  # pydantic reads it
    return dataclass(frozen=True, kw_only=True)(cls)


FIXED = ("data", "data.name", "data.options", "data.fingerprint", "model", "model.name", "conditional")
"""Fields of a recipe that nobody sets by their names."""


@config
class DataSpec:
    """Which data, and how it was read: enough to load it again and to notice when it changed."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""


@config
class Training:
    """How the weights are found. Closed-form models ignore all of it."""

    steps: int = 1000
    """Optimizer steps of the first player."""
    budget: float | None = None
    """Seconds asked for; `steps` was measured from it once, and only `steps` counts after that."""
    batch: int = 128
    accumulate: int = 1
    """Micro-batches a step; they are pieces of `batch`."""
    recompute: bool = False
    """Whether the inside of a network's blocks is computed once more for the gradient, and not kept: less memory, more
    time."""
    shard: bool = False
    """Whether weights, gradients, moments and averages are spread over the processes, so that a model need not fit into
    one of them while it trains."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether networks are compiled for the training's steps. auto becomes on or off when a budget becomes steps: on where
    that is long and a trial says that it pays; without a budget it is off."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    """Of AdamW; plain SGD takes the first as its momentum."""
    weight_decay: float = 0.0
    clip: float | None = 1.0
    """Largest gradient norm of a player; None: no clipping."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """How the rate falls after the warm-up."""
    final: float = 0.0
    """What it falls to, as a share of `lr`."""
    warmup: int = 0
    """Steps over which the rate rises linearly."""
    ema: float = 0.0
    """Decay of the moving average of the weights that is validated and kept; 0: none."""
    snapshots: int = 0
    """How often, evenly spaced, two averages of the weights are kept, from which `pangen average` makes any other
    when the training has ended; 0: never. Each is twice the size of the weights."""
    validations: int = 20
    """How often, evenly spaced, the validation split is scored."""
    validation_examples: int = 1000
    """Validation examples scored at most: enough to rank weights, cheap enough to do often."""
    patience: int = 0
    """Validations in a row at which samples of a model with a critic cannot be told from data, after which training
    stops; 0: never."""

    def __post_init__(self) -> None:
        positive, share = "a positive number", "at least 0 and less than 1"
        checks = {
            "steps": (self.steps >= 1, "at least 1"), "batch": (self.batch >= 1, "at least 1"),
            "accumulate": (1 <= self.accumulate <= self.batch, "at least 1 and at most training.batch"),
            "lr": (0 < self.lr < math.inf, positive), "ema": (0 <= self.ema < 1, share),
            "validations": (self.validations >= 1, "at least 1"), "snapshots": (self.snapshots >= 0, "at least 0"),
            "validation_examples": (self.validation_examples >= 1, "at least 1"),
            "warmup": (self.warmup >= 0, "at least 0"), "patience": (self.patience >= 0, "at least 0"),
            "weight_decay": (self.weight_decay >= 0, "at least 0"), "final": (0 <= self.final <= 1, "from 0 to 1"),
            "clip": (self.clip is None or self.clip > 0, f"{positive}, or null"),
            "budget": (self.budget is None or 0 < self.budget < math.inf, positive),
            "compile": (self.compile != "on" or not self.shard, "auto or off where training.shard is true"),
            "betas": (all(0 <= b < 1 for b in self.betas), f"both {share}"),
        }  # fmt: skip
        for name, (holds, rule) in checks.items():
            if not holds:
                raise PangenError(f"training.{name} = {getattr(self, name)} is out of range: it is {rule}.")


@config
class Recipe:
    """Everything that decides a run."""

    data: DataSpec
    codec: dict[str, Any]
    """The codec's name and settings."""
    model: dict[str, Any]
    """The model's name and constructor settings."""
    training: Training = field(default_factory=Training)
    seed: int = 0
    chunk: int = 64
    """Samples and likelihoods are computed in chunks of this size, and depend on it."""
    conditional: bool = False
    """Whether the model is given the labels."""
    dtype: Precision = "float32"
    """Of weights, data and noise, in training and after: float64 is slower, and exact to more digits."""

    def __post_init__(self) -> None:
        if not 1 <= self.chunk <= MOST:
            raise PangenError(f"chunk = {self.chunk} is out of range: it is from 1 to {MOST}.")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Recipe:
        """Validate; an unknown or ill-typed field is a `PangenError` that names it."""
        recipe = _validate(cls, fields, "recipe")
        name = str(recipe.model.get("name", ""))
        settings = {k: v for k, v in recipe.model.items() if k != "name"}
        return replace(
            recipe, model={"name": name, **asdict(_validate(settings_of(name), settings, "model"))}
        )

    def override(self, fields: Mapping[str, Any]) -> Recipe:
        """The recipe with dotted fields replaced: `{"training.lr": 1e-4, "model.latent": 8}`."""
        tree = self.to_json()
        for path, value in fields.items():
            *parents, leaf = path.split(".")
            node: Any = tree
            for parent in parents:
                node = node.get(parent) if isinstance(node, dict) else None
            if path in FIXED:
                raise PangenError(
                    f"recipe field '{path}' follows from the model and the data that are named; leave it out."
                )
            if not isinstance(node, dict) or leaf not in node:
                raise unknown("recipe field", path, _paths(self.to_json()))
            node[leaf] = value
        return Recipe.from_json(tree)


def build_model(recipe: Recipe, space: Any) -> Any:
    """The model of a recipe over a space, freshly initialised from the recipe's seed."""
    import torch

    from pangen.rng import seed_global

    settings = {k: v for k, v in recipe.model.items() if k != "name"}
    settings = asdict(_validate(settings_of(recipe.model["name"]), settings, "model"))
    with torch.random.fork_rng(), precision(recipe.dtype), _bounded(recipe.model["name"]):
        seed_global(torch.device("cpu"), "initialise", recipe.seed)
        model = get(recipe.model["name"]).load()(space, **settings)
        if recipe.dtype != "float32":  # buffers that are made in one type whatever the default
            model.to(torch.get_default_dtype())
    model.chunk = recipe.chunk
    return model


@contextmanager
def _bounded(name: str) -> Iterator[None]:
    """Stop at a model of more parts than anybody's, or of weights that fill the memory, while it is being made."""
    from torch.nn.modules.module import register_module_parameter_registration_hook

    parts, size, free, here = count(1), 0, free_memory(), get_ident()

    def check(module: Any, part: str, weights: Any) -> None:
        nonlocal size
        if get_ident() != here:
            return
        PARTS.check(next(parts), f"the recipe of this {name}")
        size += 0 if weights is None else weights.nbytes  # which are not touched before they are initialised
        if free is not None and size > free:
            raise PangenError(
                f"the weights of this {name} alone need more than the {gibibytes(free)} that are free; take a smaller "
                "model (--model...)."
            )

    handle = register_module_parameter_registration_hook(check)
    try:
        yield
    finally:
        handle.remove()


def settings_of(name: str) -> type[Any]:
    """The settings of a model as a dataclass, read off its constructor."""
    return _settings(get(name))


@cache
def _settings(entry: Entry) -> type[Any]:
    cls = entry.load()
    hints = get_type_hints(cls.__init__, include_extras=True)
    fields = []
    for parameter in list(inspect.signature(cls.__init__).parameters.values())[2:]:
        if (
            parameter.kind is not inspect.Parameter.KEYWORD_ONLY
            or parameter.default is inspect.Parameter.empty
        ):
            raise TypeError(
                f"{cls.__name__}.__init__: '{parameter.name}' must be keyword-only with a default"
            )
        default = parameter.default
        fields.append((parameter.name, hints[parameter.name], field(default=default)))
    return config(make_dataclass(f"{cls.__name__}Settings", fields, kw_only=True))


def _validate(cls: type[Any], fields: Mapping[str, Any], where: str) -> Any:
    try:
        return pydantic.TypeAdapter(cls).validate_python(dict(fields))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        path = path if where == "recipe" else f"{where}.{path}"
        if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            known = (
                cls.__dataclass_fields__
                if "." not in path or where != "recipe"
                else Training.__dataclass_fields__
            )
            prefix = path.rpartition(".")[0]
            raise unknown("recipe field", path, [f"{prefix}.{k}" if prefix else k for k in known]) from None
        message = first["msg"][0].lower() + first["msg"][1:]
        raise PangenError(
            f"recipe field '{path}' = {json.dumps(first['input'], default=str)}: {message}."
        ) from None


def _paths(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    paths = []
    for key, value in tree.items():
        paths.append(prefix + key)
        if isinstance(value, dict):
            paths += _paths(value, f"{prefix}{key}.")
    return paths
