"""Generative models as classifiers, beside classifiers: accuracy, calibration, samples, and missing pixels.

    python benchmarks/classify.py --budget 60 --seeds 3 --page
    python benchmarks/classify.py --budget 60 --seeds 3 --models vae

p(y given x) of a generative model is Bayes' rule, of `rbm` its own. The same pixels are hidden from all. `independent`,
`mixture` and `kde` sum over them; all others see them filled in from the 5 nearest training examples, one after the other, and
their probabilities are averaged. Classifiers are scikit-learn's, on the same splits. `--page` writes the table and the
picture of docs/classify.md.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from ledger import interval, record, verdict
from readme import between
from torch import Tensor

import pangen
from pangen.data import Data
from pangen.evaluation.classification import scores
from pangen.evaluation.figures import FAMILIES
from pangen.registry import get
from pangen.tasks.classify import imputed, shown

DOCS = Path(__file__).parents[1] / "docs"
MISSING = (0.0, 0.2, 0.4, 0.6, 0.8)
MODELS = ("independent", "mixture", "kde", "rbm", "realnvp", "made", "vae")
Probabilities = Callable[[Tensor], Tensor]


def classifiers(seed: int) -> dict[str, Any]:
    """Unfitted ones of scikit-learn, with their usual settings; an SVM's probabilities are sigmoids of its scores (Platt 1999)."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    return {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "SVM": make_pipeline(StandardScaler(), CalibratedClassifierCV(SVC(), ensemble=False)),
        "decision tree": DecisionTreeClassifier(random_state=seed),
        "gradient boosting": HistGradientBoostingClassifier(random_state=seed),
    }


def of_classifier(model: Any, data: Data, missing: float, seed: int) -> Tensor:
    """log p(y given x) `(N, classes)` of the test split."""
    x = data.test.x
    observed = shown(x, missing, seed)
    copies = imputed(x, observed, data.train.x, 5) if missing else x[None]
    p = torch.stack([torch.from_numpy(model.predict_proba(c.flatten(1).numpy())) for c in copies]).mean(0)
    return p.clamp(min=1e-12).log()


def measured(name: str, data: Data, length: dict[str, Any], seed: int) -> dict[str, float]:
    """Every number of one model or classifier, by its metric."""
    found: dict[str, float] = {}
    if name in MODELS:
        run = pangen.fit(name, data, **length, seed=seed, device="cpu")
        row = pangen.evaluate(run, data)
        found["frechet"] = row["fidelity"]["frechet"]["value"]
        found["train_on_synthetic"] = row["classification"].get("value", float("nan"))
        log_p = {share: pangen.classify(run, data, missing=share, seed=seed).log_p for share in MISSING}
    else:
        model = classifiers(seed)[name].fit(data.train.x.flatten(1).numpy(), data.train.y.numpy())
        log_p = {share: of_classifier(model, data, share, seed) for share in MISSING}
    for share, values in log_p.items():
        score = scores(values, data.test.y, "classify", seed)
        found[f"accuracy, {100 * share:.0f} % missing"] = score["accuracy"]["value"]
        if share == 0:
            found["calibration_error"] = score["calibration_error"]["value"]
            found["log_loss"] = score["log_loss"]["value"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", default="digits")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of training for each model")
    parser.add_argument("--steps", type=int, help="of training, instead of a budget")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", help="names with commas (all)")
    parser.add_argument("--page", action="store_true", help="write the table and picture of docs/classify.md")
    args = parser.parse_args()
    data = pangen.load_data(args.data)
    length = {"steps": args.steps} if args.steps else {"budget": args.budget}
    names = args.models.split(",") if args.models else [*MODELS, *classifiers(0)]
    results: dict[str, dict[str, list[float]]] = {}
    for name in names:
        began = time.perf_counter()
        rows = [measured(name, data, length, seed) for seed in range(args.seeds)]
        results[name] = {metric: [row[metric] for row in rows] for metric in rows[0]}
        for metric, values in results[name].items():
            record(
                "classify", values, model=name, data=args.data, metric=metric,
                **(length if name in MODELS else {}), seconds=time.perf_counter() - began,
            )  # fmt: skip
    if args.page:
        between(DOCS / "classify.md", "classify", table(results, args))
        draw(results)
    for share in (MISSING[0], MISSING[-1]) if len(results) > 1 else ():
        metric = f"accuracy, {100 * share:.0f} % missing"
        print(verdict(metric, {name: row[metric] for name, row in results.items()}, less=False))


def table(results: dict[str, dict[str, list[float]]], args: argparse.Namespace) -> str:
    """In Markdown: a row for each model, means over seeds."""
    head = "| | accuracy | calibration error | log loss | Fréchet | 20 % missing | 40 % | 60 % | 80 % |\n|---|---|---|---|---|---|---|---|---|\n"
    lines = []
    for name, row in results.items():
        mean = {metric: interval(values)[0] for metric, values in row.items()}
        frechet = f"{mean['frechet']:.2f}" if "frechet" in mean else "cannot sample"
        cells = [f"`{name}`" if name in MODELS else name, f"{100 * mean['accuracy, 0 % missing']:.1f} %"]
        cells += [f"{100 * mean['calibration_error']:.1f}", f"{mean['log_loss']:.2f}", frechet]
        cells += [f"{100 * mean[f'accuracy, {100 * share:.0f} % missing']:.1f} %" for share in MISSING[1:]]
        lines.append("| " + " | ".join(cells) + " |\n")
    told = f"{args.steps} steps" if args.steps else f"{args.budget:g} s"
    note = f"`{args.data}`, {told} of training a model, {args.seeds} seed{'s' * (args.seeds > 1)}, on the test split; calibration error in points.\n"
    return head + "".join(lines) + "\n" + note


def draw(results: dict[str, dict[str, list[float]]]) -> None:
    """Accuracy over the share that is missing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.4), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    greys = iter(("#333333", "#666666", "#999999", "#bbbbbb"))
    styles = dict(zip(("independent", "mixture", "kde"), ("-", "--", ":"), strict=True))
    for name, row in results.items():
        y = [100 * interval(row[f"accuracy, {100 * share:.0f} % missing"])[0] for share in MISSING]
        ours = name in MODELS
        axes.plot(
            [100 * share for share in MISSING], y, label=name, lw=1.6 if ours else 1.0, marker="o", ms=3,
            color=FAMILIES[get(name).family] if ours else next(greys), ls=styles.get(name, "-"),
        )  # fmt: skip
    axes.set(xlabel="missing pixels, %", ylabel="accuracy, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(DOCS / "assets" / "classify.png")


if __name__ == "__main__":
    main()
