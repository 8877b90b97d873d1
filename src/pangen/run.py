"""A run is one folder: recipe, codec, weights, training state, metrics, samples, and a card."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from pangen import parallel, rng
from pangen.capabilities import HasClassifier, HasFeatures, HasLatent, HasLogProb, HasMarginal, HasPartition
from pangen.codecs import Codec, codec_from_json
from pangen.errors import PangenError, unknown
from pangen.files import make_folder, read_object, read_tensors, write_json, write_tensors
from pangen.folder import CARD, CODEC, RECIPE, WEIGHTS
from pangen.memory import check_memory, is_exhausted
from pangen.model import GenerativeModel
from pangen.precision import precision
from pangen.recipes import Recipe, build_model, read_recipe, write_recipe
from pangen.registry import Entry, get
from pangen.space import LogProb, LogZ, Method, Trust, weaker
from pangen.threads import threads

Given = int | str | Sequence[int] | Sequence[str] | Tensor | None
"""What examples are given: a class or a text for all of them, or one for each; None: not told."""


@dataclass
class Run:
    """A trained model behind its codec: takes and gives raw data, in the data's own units."""

    recipe: Recipe
    codec: Codec
    model: GenerativeModel
    card: dict[str, Any] = field(default_factory=dict)
    """What happened: state, steps, seconds, best validation score, versions, hardware."""
    path: Path | None = None

    @property
    def entry(self) -> Entry:
        return get(self.recipe.model["name"])

    def sample(self, n: int, given: Given = None, *, seed: int = 0, **how: Any) -> Any:
        """Draw `n` raw examples; the i-th is a function of (seed, i, given) alone.

        `given`: a class name or index, or one index for each sample; of a model that answers to texts a
        text, or one for each. None draws conditions as often as the training data has them. `how`
        goes to the model's `trajectory`.
        """
        if not self.entry.samples:
            raise PangenError(
                f"{self.entry.name} cannot be sampled: {self.entry.sampling.removeprefix('none: ')}; {self._instead}."
            )
        if n < 1:
            raise PangenError(f"cannot draw {n} samples; ask for at least 1.")
        dims = self.codec.outer.space.dims * 16  # a float and an integer copy of each value, and room
        check_memory(n * dims, f"{n} samples", "ask for fewer")
        y = self.conditions(n, given, seed=seed)
        with self.computing():
            x = self.model.sample(n, self.codec.encode_condition(y), seed=seed, **how)
            raw = self.codec.decode(x, generator=rng.generator(x.device, "decode", seed))
        return raw.cpu() if isinstance(raw, Tensor) else raw

    @property
    def no_likelihood(self) -> str:
        """Why there is none, of the model or behind its codec; empty where there is one."""
        if not isinstance(self.model, HasLogProb):
            return self.entry.reason or "the model gives no probabilities"
        return self.codec.reason

    @property
    def _instead(self) -> str:
        """What to sample in the place of a model without a prior."""
        if not isinstance(self.model, HasLatent):
            return "fit a model with a prior, such as vae"
        prior = "gpt" if self.model.latent_space.kind == "tokens" else "mixture"
        return f"fit one to its codes with `pangen fit {prior} latents:{self.path or 'RUN'}`"

    def _check_likelihood(self) -> None:
        if self.no_likelihood:
            raise PangenError(f"{self.entry.name} has no likelihood: {self.no_likelihood}.")

    @contextmanager
    def computing(self) -> Iterator[None]:
        """As the run was trained: its threads and its floating-point numbers."""
        with threads(self.card.get("threads")), precision(self.recipe.dtype):
            yield

    def conditions(self, n: int, given: Given = None, *, seed: int = 0) -> Any:
        """Raw conditions for `n` samples, class indices `(n,)` or n texts; None for a model without."""
        if self.codec.condition is None:
            if given is not None:
                raise PangenError(
                    f"this {self.entry.name} was trained without labels or texts; leave out --given."
                )
            return None
        if given is None:
            drawn = rng.chunks(n, self.model.chunk, "cpu", "labels", seed)
            parts = [
                self.codec.draw_conditions(self.model.chunk, generator)[: stop - start]
                for start, stop, generator in drawn
            ]
            return torch.cat(parts) if isinstance(parts[0], Tensor) else sum(parts, ())
        return self._classes(n, given) if self.codec.labels else self._texts(n, given)

    def _texts(self, n: int, given: Given) -> tuple[str, ...]:
        texts = (given,) * n if isinstance(given, str) else given
        if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
            raise PangenError(f"this {self.entry.name} answers to texts: give one, or one for each sample.")
        if len(texts) != n:
            raise PangenError(f"{len(texts)} texts do not fit {n} examples; give one for each.")
        return tuple(map(str, texts))

    def _classes(self, n: int, given: Given) -> Tensor:
        names = self.codec.labels
        if isinstance(given, str):
            if given not in names:
                raise unknown("label", given, names)
            given = names.index(given)
        y = torch.as_tensor(given, dtype=torch.long).expand(n)
        if not ((y >= 0) & (y < len(names))).all():
            raise PangenError(f"label {given} is out of range: there are {len(names)}, {', '.join(names)}.")
        return y

    def log_prob(self, raw: Any, y: Given = None, *, seed: int = 0) -> LogProb:
        """log p in nats `(N,)` of raw data in raw units, with the codec's volume.

        With `y`, log p(x given y). Without, log p(x): for a model that is told classes that is
        logsumexp over y of log p(y) + log p(x given y), p(y) from the training split.
        """
        self._check_likelihood()
        if y is None and self.answers:
            raise PangenError(
                f"this {self.entry.name} knows its examples given texts alone: pass these as y."
            )
        if y is not None:
            if self.codec.condition is None:
                raise PangenError(
                    f"this {self.entry.name} was trained without labels; it has no log p(x given y)."
                )
            y = self.conditions(len(raw), y)
        if y is None and self.codec.labels:
            joint = self.joint_log_prob(raw, seed=seed)
            return LogProb(joint.nats.logsumexp(1), joint.kind)
        with self.computing():
            return self._log_prob(raw, y, seed)

    @property
    def answers(self) -> bool:
        """Whether the model knows x given y alone, there being no sum over all y."""
        return self.codec.condition is not None and not self.codec.labels

    def joint_log_prob(self, raw: Any, *, seed: int = 0) -> LogProb:
        """log p(y) + log p(x given y) of raw data with every label, in nats `(N, labels)`."""
        self._check_likelihood()
        prior = self.codec.label_log_prior
        with self.computing():
            parts = [self._log_prob(raw, torch.full((len(raw),), c), seed) for c in range(len(prior))]
        return LogProb(torch.stack([part.nats for part in parts], 1) + prior, parts[0].kind)

    def classify(self, raw: Any, observed: Tensor | None = None, *, seed: int = 0) -> Tensor:
        """log p(y given x) `(N, labels)` of raw data: the model's own, or by Bayes' rule from its likelihood.

        With `observed`, a bool for each value of a model that can do without the others, given these alone.
        """
        if not self.codec.labels:
            raise PangenError(f"this {self.entry.name} was trained without labels; it knows no classes.")
        if observed is not None:
            return self._marginal(raw, observed, seed).log_softmax(1)
        if not isinstance(self.model, HasClassifier):
            return self.joint_log_prob(raw, seed=seed).nats.log_softmax(1)
        return self._of_each(self.model.classify, raw, "classify", seed)

    def _marginal(self, raw: Tensor, observed: Tensor, seed: int) -> Tensor:
        """log p(y) + log p of what is observed of x, given y `(N, labels)`, the codec's volume aside."""
        if not isinstance(self.model, HasMarginal):
            raise PangenError(
                f"{self.entry.name} knows no part of an example without the rest; impute what is missing."
            )
        prior, size, parts = self.codec.label_log_prior, self.model.chunk, []
        with self.computing(), torch.no_grad():
            for start, stop, generator in rng.chunks(len(raw), size, "cpu", "classify", seed):
                index = rng.whole(start, size, len(raw))
                x = self.codec.encode(raw[index], generator=generator).x.to(self.model.device)
                seen = observed[index].to(x.device)
                each = [
                    self.model.marginal_log_prob(x, seen, torch.full((size,), c, device=x.device)).nats
                    for c in range(len(prior))
                ]
                parts.append(torch.stack(each, 1)[: stop - start].double().cpu())
        return torch.cat(parts) + prior

    def features(self, raw: Any, *, seed: int = 0) -> Tensor:
        """What the model knows of raw data `(N, d)`, for metrics and for models of other things."""
        if not isinstance(self.model, HasFeatures):
            raise PangenError(f"{self.entry.name} gives no features; take a vit or a cnn.")
        return self._of_each(self.model.features, raw, "features", seed)

    def _of_each(self, what: Callable[[Tensor], Tensor], raw: Any, name: str, seed: int) -> Tensor:
        """A function of encoded examples `(B, *shape)`, of all of them, as float64."""

        def of(chunk: rng.Chunk) -> Tensor:
            x = self.codec.encode(raw[chunk.start : chunk.stop], generator=chunk.generator).x
            return what(x.to(self.model.device)).double().cpu()

        with self.computing(), torch.no_grad():
            return torch.cat(parallel.spread(rng.chunks(len(raw), self.model.chunk, "cpu", name, seed), of))

    def log_z(self, method: Method | None = None, *, chains: int = 0, seed: int = 0) -> LogZ:
        """log of the normalising constant in the model's own space, all labels together, with its bounds.

        Args:
            method: "exact", a sum over states; "ais", annealed importance sampling from `chains` each
                way (0: the recipe's number); None: the first that can be.
        """
        if not isinstance(self.model, HasPartition):
            raise PangenError(
                f"{self.entry.name} is no energy-based model with a normalising constant to find; take rbm, "
                "boltzmann, dbm or ebm."
            )
        with self.computing():
            found = self.model.partition(rng.generator(self.model.device, "log z", seed), method, chains)
        value, low, high = (end.double().logsumexp(0) for end in found[:3])
        return LogZ(value, low, high, found.method)

    def _log_prob(self, raw: Any, y: Any, seed: int) -> LogProb:
        model, size = self.model, self.model.chunk
        log_prob = cast("HasLogProb", model).log_prob
        y = None if y is None else self.codec.encode_condition(y)

        def of(chunk: rng.Chunk) -> tuple[Tensor, Trust]:
            start, stop, generator = chunk
            index = rng.whole(start, size, len(raw))
            part = raw[index] if isinstance(raw, Tensor) else tuple(raw[i] for i in index)
            part = part.to(model.device) if isinstance(part, Tensor) else part
            noise = None if generator.device.type != "cpu" and not isinstance(part, Tensor) else generator
            x, volume = self.codec.encode(part, generator=noise)
            condition = None if y is None else y[index].to(model.device)
            with torch.no_grad():
                found = log_prob(x.to(model.device), condition, generator=generator)
            nats = found.nats.double() + volume.to(model.device).double()
            return nats.cpu()[: stop - start], found.kind

        parts = parallel.spread(rng.chunks(len(raw), size, model.device, "log_prob", seed), of)
        kind = self.codec.kind
        for _, found in parts:
            kind = weaker(kind, found)
        return LogProb(torch.cat([nats for nats, _ in parts]), kind)

    def save(self, path: str | Path) -> Run:
        """Write all that is needed to use the run into a folder; returns the run there."""
        folder = make_folder(Path(path))
        write_recipe(folder, self.recipe)
        write_json(folder / CODEC, self.codec.to_json())
        write_tensors(folder / WEIGHTS, self.model.state_dict())
        write_json(folder / CARD, self.card)
        self.path = folder
        return self


def as_run(run: Run | str | Path) -> Run:
    """A run, given itself or its folder."""
    return run if isinstance(run, Run) else load_run(run)


def load_run(path: str | Path, *, device: str = "auto") -> Run:
    """The run in a folder, its model in evaluation mode.

    Args:
        path: of the folder.
        device: auto, cpu, cuda or mps.

    Raises:
        PangenError: there is no run, it is damaged, or the device is not there.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise PangenError(f"there is no run folder '{path}'; `pangen fit MODEL DATA -o {path}` makes one.")
    recipe = read_recipe(folder)
    try:
        codec = codec_from_json(read_object(folder / CODEC))
        model = build_model(recipe, codec.space)
    except PangenError:
        raise
    except Exception as error:  # settings that no training wrote make a constructor raise nearly anything
        if is_exhausted(error):
            raise
        raise PangenError(
            f"{folder / RECIPE} and {CODEC} make no model ({error or type(error).__name__}): the run is damaged."
        ) from None
    load_weights(model, read_tensors(folder / WEIGHTS)[0], folder / WEIGHTS)
    where = pick_device(device)
    check_precision(recipe.dtype, where)
    model.to(where).eval()
    card = read_object(folder / CARD)
    if type(card.get("threads", 1)) is not int or card.get("threads", 1) < 1:
        raise PangenError(f"{folder / CARD} names no number of threads: the run is damaged.")
    return Run(recipe, codec, model, card, folder)


def load_weights(model: GenerativeModel, tensors: dict[str, Tensor], source: Path) -> None:
    """Fill a model; names, shapes or numbers that do not fit are a damaged file."""
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        detail = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise PangenError(f"{source} does not fit its recipe ({detail}): the run is damaged.") from None
    for name, weights in model.named_parameters():
        if not weights.detach().isfinite().all():
            raise PangenError(f"{source} holds weights {name} that are not finite: the run is damaged.")


def check_precision(name: str, device: torch.device) -> None:
    """Raise where a device has no such numbers."""
    if name == "float64" and device.type == "mps":
        raise PangenError("the device 'mps' has no float64; use --device cpu, or leave out --dtype.")


def pick_device(name: str) -> torch.device:
    """`auto` is the best accelerator there is."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if available["cuda"] else "mps" if available["mps"] else "cpu")
    if name not in available:
        raise unknown("device", name, ["auto", *available])
    if not available[name]:
        raise PangenError(f"there is no '{name}' device on this machine; use --device auto or cpu.")
    return torch.device(parallel.local_device(name))
