"""One measure for all models of a data set: its features, references and thresholds are made once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

import pangen
from pangen.capabilities import HasLatent
from pangen.data.dataset import Data, Split, Truth
from pangen.data.given import as_data
from pangen.errors import PangenError
from pangen.evaluation.classification import CLASSIFIER, synthetic_accuracy
from pangen.evaluation.closeness import Closeness, share
from pangen.evaluation.cost import sample_timed
from pangen.evaluation.evidence import evidence
from pangen.evaluation.features import Lent, choose_features, coordinates, features_of, flatten
from pangen.evaluation.kind import check_kind, data_of
from pangen.evaluation.known_truth import LAW_ROW, against_law, is_product
from pangen.evaluation.latent import latent_of
from pangen.evaluation.likelihood import Examples, examples_compared, likelihood_of_the_law, likelihoods
from pangen.evaluation.memorisation import Memory, auc
from pangen.evaluation.mixing import mixing_of
from pangen.evaluation.sharpness import sharpness
from pangen.evaluation.summary import mark_caught
from pangen.evaluation.yardsticks import CHEATS, REAL_ROW, cheats
from pangen.rng import generator
from pangen.run import Run, as_run

MEMBERS = 200
"""Training examples whose likelihood is set against that of unseen ones, at most."""
MOVED_ON = "a series moves on: what is held out is no measure of nearness to what came before"


def evaluate(
    run: Run | str | Path,
    data: Any = None,
    *,
    split: str = "test",
    seed: int = 0,
    samples: int | None = None,
    examples: int | None = None,
    features: Lent | None = None,
) -> dict[str, Any]:
    """How good a run is on held-out data, as one JSON-able object.

    Args:
        run: a `Run` or its folder.
        data: what it is measured on, by name, path or value; None: the data it was trained on.
        split: train, validation or test.
        seed: decides samples, noise and resampling.
        samples: how many are drawn; None: as many as there are held-out examples, and at least
            1000 (or the number of training examples) for the classifier trained on them.
        examples: held-out examples whose likelihood is computed; None: as many as `compare`
            takes, all of a small split and at least 300 of a large one.
        features: what lends features in which samples are set against real data: a run of a `vit` or `cnn`, or its
            folder; of images also "imagenet", a network's .pt or .pt2 file, or a function of `(N, 3, H, W)`, levels from 0 to
            1, that gives `(N, d)`. None: a small network taught on the spot, or what fits the data.

    Raises:
        PangenError: when the data has changed since, or is of another kind than the run's.
    """
    run = as_run(run)
    found = data_of(run) if data is None else as_data(data)
    check_kind(run, found)
    judge = Judge(found, split=split, seed=seed, samples=samples, examples=examples, features=features)
    return without_draws(judge.judge(run))


class Judge:
    """Everything that is the same for each model: computed once, and shared.

    Args:
        data: the data set; features, classifier and near-copies learn from its training split.
        split: the split of real examples that samples are set against.
        seed: decides samples, noise and resampling.
        samples: how many samples are drawn of each model.
        examples: how many real examples likelihoods are computed on; None: all of a small split, and
            at least 300 of a large one.
        features: what lends the features that stand for an example, as in `evaluate`; None: those of the data.
    """

    def __init__(
        self,
        data: Data,
        *,
        split: str = "test",
        seed: int = 0,
        samples: int | None = None,
        examples: int | None = None,
        features: Lent | None = None,
    ) -> None:
        if samples is not None and samples < 2:
            raise PangenError(f"cannot judge by {samples} samples; ask for at least 2.")
        if len(data.split(split)) < 2:
            raise PangenError(f"the {split} split of '{data.name}' has fewer than 2 examples to judge by.")
        self.data, self.split, self.seed = data, split, seed
        most = min(max(400_000 // data.size, 500), 2000)
        self.reference = pick(data.split(split), most)
        count = len(self.reference.x)
        self.samples = samples or max(count, min(len(data.train), most, 1000))
        self.scored = pick(data.split(split), examples or examples_compared(data, split))
        self._partner = "test" if split == "validation" else "validation"
        self.held_out = pick(data.split(self._partner), count)
        # the same, and called the same, for models of the data and of its codes
        named = replace(data, name=data.raw_name or data.name)
        fewest = min(count, self.samples, len(self.held_out.x))
        if features is None:
            self.features = choose_features(named, fewest)
        else:
            self.features = features_of(features, data, fewest)
        self._closeness = Closeness(self.features, self.reference, _shares(data), seed=seed)
        self._memory = self._remember()

    def protocol(self) -> dict[str, Any]:
        """What an evaluation depends on beside the run: equal protocols can be compared."""
        return {
            "version": pangen.__version__,
            "fingerprint": self.data.fingerprint,
            "split": self.split,
            "seed": self.seed,
            "samples": self.samples,
            "reference": len(self.reference.x),
            "reference_hash": self._closeness.hash,
            "examples": len(self.scored.x),
            "features": self.features.name,
        }

    def judge(self, run: Run, picture: Path | None = None) -> dict[str, Any]:
        """The evaluation of one run, its field `draws` what ranks are resampled from.

        `picture`: where to keep the samples nearest to training examples, beside these.
        """
        card = run.card
        row: dict[str, Any] = {
            "model": run.entry.name,
            "family": run.entry.family,
            "data": self.data.name,
            "split": self.split,
            "seed": run.recipe.seed,
            "conditional": run.codec.condition is not None,
            "codec": run.codec.name,
            "density": "none" if run.no_likelihood else run.entry.density,
        }
        row |= likelihoods(run, self.data, self.scored, seed=self.seed)
        nats = row.pop("each", [])
        draws = {"nats": nats} if nats else {}
        cost = {"parameters": card.get("parameters"), "train_seconds": card.get("seconds")}
        if run.entry.samples:
            y = run.conditions(self.samples, seed=self.seed)
            x, drawing = sample_timed(run, self.samples, y, seed=self.seed)
            row |= self.measure(x, y, picture)
            draws |= row.pop("draws")
            if run.entry.chains:
                row["mixing"] = mixing_of(run, seed=self.seed)
        else:
            reason = {"none": f"cannot be sampled: {run.entry.sampling.removeprefix('none: ')}"}
            row |= dict.fromkeys(("fidelity", "classification", "near_copies", "membership"), reason)
            row |= {"sharpness": reason} if self.data.modality == "image" else {}
            drawing = {"sample_seconds_per_1000": None, "network_evaluations": None}
        row["membership_by_likelihood"] = self._members_by_likelihood(run, nats)
        if isinstance(run.model, HasLatent):
            row["latent"] = latent_of(run, self.data, self.reference, seed=self.seed)
        row["cost"] = {**cost, **drawing, "sampling": run.entry.sampling, "device": card.get("device")}
        best = card.get("best") or {}
        row["training"] = {
            "state": card.get("state"),
            "steps": card.get("steps"),
            "best_step": best.get("step"),
            "best_score": best.get("score"),
            "warnings": card.get("warnings", []),
        }
        return {**row, "draws": draws, "protocol": self.protocol()}

    def measure(self, x: Any, y: Any, picture: Path | None = None) -> dict[str, Any]:
        """The fields of raw samples: `fidelity`, `classification`, `near_copies`, `membership` and, of images, `sharpness`.

        And `draws`, as `judge` says.
        """
        _check_finite(x, self.data)
        fidelity, replicates = self._closeness.measure(x, y)
        return {
            "fidelity": fidelity,
            "classification": self._classification(x, y),
            **self._memorised(x, picture),
            **({"sharpness": self._sharpness(x)} if self.data.modality == "image" else {}),
            **({"against_law": self._against_law(x)} if self.data.truth is not None else {}),
            "draws": {"frechet": replicates} if replicates else {},
        }

    def frechet(self, x: Any, y: Any) -> dict[str, Any]:
        """That field of `fidelity` alone, of raw samples."""
        _check_finite(x, self.data)
        return self._closeness.frechet(x, y)

    def yardsticks(self) -> list[dict[str, Any]]:
        """Real data in the place of samples, which is what a perfect model would score, and five cheats."""
        copies = pick(self.data.train, self.samples)
        found = cheats(self.data, self.held_out, copies, self.features, self.samples)
        rows = [(REAL_ROW, self.held_out), *zip(CHEATS, found, strict=True)]
        measured = [{"model": name, **without_draws(self.measure(*examples))} for name, examples in rows]
        law, real = self.data.truth, self.reference.x
        product = law is not None and isinstance(real, Tensor) and is_product(law, real)
        return [*mark_caught(measured, product=product), *self._law()]

    def _law(self) -> list[dict[str, Any]]:
        """The row of the law behind the data, where that is known."""
        if self.data.truth is None:
            return []
        x = self.data.truth.sample(self.samples, generator("cpu", LAW_ROW, self.data.name))
        fields = likelihood_of_the_law(self.data, self.scored)
        return [{"model": LAW_ROW, **fields, **without_draws(self.measure(x, None))}]

    def _against_law(self, x: Any) -> dict[str, Any]:
        return against_law(cast("Truth", self.data.truth), self.reference.x, x, self.features, seed=self.seed)

    def _classification(self, x: Any, y: Any) -> dict[str, Any]:
        if not self.data.labels and not self.data.meanings:
            return {"none": "the data has no labels"}
        if self.data.modality == "text":
            return {"none": "text is not classified"}
        if y is None:
            return {"none": "not conditional"}
        y = self.data.classes(y)
        if y is None:
            return {"none": "the classes that its texts speak of are not known"}
        real = self.data.split(self.split).first(10_000).all(generator("cpu", "judge", "classify"))
        right = synthetic_accuracy(
            flatten(self.data, x), y, flatten(self.data, real[0]), cast("Tensor", self.data.classes(real[1]))
        )
        return share(
            right, "accuracy", self.seed, classifier=CLASSIFIER, samples=len(x), tested_on=len(right)
        )

    def _memorised(self, x: Any, picture: Path | None) -> dict[str, Any]:
        """The fields `near_copies`, with the samples that are nearest to training examples, and `membership`."""
        plain = flatten(self.data, x)
        facts = {"features": coordinates(self.data), "samples": len(plain)}
        copies, found = self._memory.copies(plain)
        shown = evidence(self.data, x, self._trained_on(), found, picture)
        return {
            "near_copies": {**copies, "held_out": self._usual, **facts, "closest": shown},
            "membership": {"none": MOVED_ON} if self._moves else {**self._memory.membership(plain), **facts},
        }

    def _remember(self) -> Memory:
        """The measure of near-copies; sets what unseen real data scores."""
        sets = (flatten(self.data, x) for x in (self._trained_on(), self.reference.x))
        memory = Memory(*sets, seed=self.seed, near=not self._moves)
        self._usual = memory.copies(flatten(self.data, self.held_out.x))[0]["value"]
        return memory

    @property
    def _moves(self) -> bool:
        """Whether unseen examples are later ones than those of training."""
        return self.data.modality == "series"

    def _members_by_likelihood(self, run: Run, unseen: list[float]) -> dict[str, Any]:
        """How well the likelihood tells training examples from unseen ones."""
        if not unseen:
            return {"none": "no likelihood"}
        members = pick(self.data.train, min(MEMBERS, len(unseen)))
        seen = likelihoods(run, self.data, members, seed=self.seed).get("each")
        if not seen:
            return {"none": "log-probability is not finite on training examples"}
        return {**auc(torch.tensor(seen), torch.tensor(unseen)), "by": "log p(x)", "samples": len(seen)}

    def _trained_on(self) -> Any:
        return self.data.train.in_memory().all(generator("cpu", "judge", "train"))[0]

    def _sharpness(self, x: Tensor) -> dict[str, Any]:
        top = self.data.levels - 1
        return sharpness(self.reference.x.float() / top, x.float() / top, self.seed)


def pick(split: Split, n: int) -> Examples:
    """At most `n` raw examples of a split in an order of their own, always the same ones."""
    split = split.in_memory()
    order = torch.randperm(len(split), generator=generator("cpu", "pick"))[:n]
    return Examples(*split.take(order, generator("cpu", "pick", "draw")))


def _check_finite(x: Any, data: Data) -> None:
    if not isinstance(x, Tensor):
        return
    finite = torch.isfinite(x.float()) | (x.isnan() if data.table else False)  # there a cell may be missing
    if not finite.all():
        bad = int((~finite).flatten(1).any(1).sum())
        raise PangenError(f"{bad} of {len(x)} samples are not finite numbers: the training diverged.")


def _shares(data: Data) -> Tensor | None:
    """How often each class occurs in the training split `(classes,)`."""
    if not data.labels or not isinstance(data.train.y, Tensor):
        return None
    counts = torch.bincount(data.train.y, minlength=len(data.labels)).double()
    return counts / counts.sum()


def without_cost(row: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation without what depends on the clock."""
    return {k: v for k, v in row.items() if k != "cost"}


def without_draws(row: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation for people: without what ranks are resampled from."""
    return {k: v for k, v in row.items() if k != "draws"}
