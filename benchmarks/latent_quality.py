"""What codes keep, and what decoders blur.

    python benchmarks/latent_quality.py codes digits --budget 60
    PANGEN_DATA=... python benchmarks/latent_quality.py codes fashion --budget 10m
    python benchmarks/latent_quality.py blur digits --budget 60
    PANGEN_DATA=... python benchmarks/latent_quality.py blur mnist --budget 10m

`codes`: codes of 20 numbers from `vae` and `ae`, trained without labels, beside 20 principal components.
Accuracy on test codes of the 5 nearest training codes; mean squared error of pixels in [0, 1] of
test images decoded from their codes; trustworthiness of the codes of some test images (Venna and
Kaski 2001), 5 neighbours. Squared error is what principal components are the best linear code
for; `ae` and `vae` are trained on it too (a normal of one scale), and `ae-logistic` on its default likelihood.

`blur`: sharpness (energy of fine detail over that of real test images; 1 is as sharp) of samples, of
the means that samples are drawn about, and of images decoded from their codes, of a `vae` by its
likelihood, and of `vqvae`, which has no samples of its own.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from ledger import interval, record

import pangen
from pangen.cli.options import seconds
from pangen.data.dataset import Data
from pangen.evaluation.judge import pick
from pangen.evaluation.latent import Codes, values_of
from pangen.evaluation.likelihood import Examples
from pangen.evaluation.sharpness import sharpness
from pangen.run import Run

DATA = {"digits": "digits", "fashion": "fashion-mnist", "mnist": "mnist"}
LATENT = 20
FIXED = {"model.observation": "fixed"}
CODES: dict[str, tuple[str, dict[str, Any]]] = {
    "ae": ("ae", FIXED),
    "ae-logistic": ("ae", {}),
    "vae": ("vae", FIXED),
    "vae-logistic": ("vae", {}),
}
BLUR: dict[str, tuple[str, dict[str, Any]]] = {
    "vae, fixed scale": ("vae", FIXED),
    "vae, learnt scale": ("vae", {"model.observation": "normal"}),
    "vae, logistic": ("vae", {"model.observation": "logistic"}),
    "vqvae": ("vqvae", {}),
}
MEASURES = {"kNN accuracy": 1, "held-out error": -1, "trustworthiness": 1}
"""Of codes, and which way is better."""
TRAINED_ON, TRUSTED = 20_000, 1000
"""Codes that neighbours are looked for among, and test examples of a trustworthiness, at most."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=["codes", "blur"])
    parser.add_argument("data", choices=DATA)
    parser.add_argument("--models", nargs="+", help="some of the rows")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=seconds, default=60.0, help="training time of each run")
    parser.add_argument("--steps", type=int, help="in place of a budget, where the machine is not quiet")
    parser.add_argument("--examples", type=int, default=5000, help="test images at most")
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", help="recipe fields of all")
    args = parser.parse_args()
    data = pangen.load_data(DATA[args.data])
    test = pick(data.test, args.examples)
    (codes if args.task == "codes" else blur)(args, data, test)


def train(args: argparse.Namespace, data: Data, name: str, fields: dict[str, Any], seed: int) -> Run:
    given = dict(field.split("=", 1) for field in args.set)
    run = pangen.fit(
        name, data, **length(args), seed=seed, conditional=False, codec="grid", device="cpu",
        recipe={**fields, **given},
    )  # fmt: skip
    for warning in run.card["warnings"]:
        print(f"  warning: {warning}", flush=True)
    return run


def length(args: argparse.Namespace) -> dict[str, Any]:
    return {"steps": args.steps} if args.steps else {"budget": args.budget}


def codes(args: argparse.Namespace, data: Data, test: Examples) -> None:
    """PCA once, as it has no seed; the others once a seed."""
    train_set = pick(data.train, TRAINED_ON)
    began = time.perf_counter()
    table = {"pca": [principal(data, train_set, test)]}
    tell(args, data, "pca", table["pca"], [], time.perf_counter() - began)
    for row in args.models or CODES:
        name, fields = CODES[row]
        began, found, steps = time.perf_counter(), [], []
        for seed in range(args.seeds):
            run = train(args, data, name, {**fields, "model.latent": LATENT}, seed)
            found.append(encoded(run, data, train_set, test))
            steps.append(run.card["steps"])
            print(f"  {row} seed {seed}, {steps[-1]} steps: {found[-1]}", flush=True)
        table[row] = found
        tell(args, data, row, found, steps, time.perf_counter() - began)
    show(table, MEASURES)
    for measure, sign in MEASURES.items():
        print(verdict(table, measure, sign))


def principal(data: Data, train_set: Examples, test: Examples) -> dict[str, float]:
    """Principal components of all training pixels."""
    from sklearn.decomposition import PCA

    top = data.levels - 1
    everything = data.train.all()[0].flatten(1).double() / top
    found = PCA(LATENT, svd_solver="full").fit(everything.numpy())
    x, known = (e.x.flatten(1).double() / top for e in (test, train_set))
    z, z_known = (torch.from_numpy(found.transform(e.numpy())) for e in (x, known))
    again = torch.from_numpy(found.inverse_transform(z.numpy()))
    return quality(x, z, again, z_known, test.y, train_set.y)


@torch.no_grad()
def encoded(run: Run, data: Data, train_set: Examples, test: Examples) -> dict[str, float]:
    with run.computing():
        held_out, known = Codes(run, test), Codes(run, train_set)
        again = values_of(run, data, held_out.decoded())
        x = test.x.flatten(1).double() / (data.levels - 1)
        return quality(x, held_out.z, again, known.z, test.y, train_set.y)


def quality(
    x: torch.Tensor, z: torch.Tensor, again: torch.Tensor, z_known: torch.Tensor, y: Any, y_known: Any
) -> dict[str, float]:
    from sklearn.manifold import trustworthiness
    from sklearn.neighbors import KNeighborsClassifier

    neighbours = KNeighborsClassifier(5).fit(z_known.double().numpy(), y_known.numpy())
    some = slice(TRUSTED)
    return {
        "kNN accuracy": float(neighbours.score(z.double().numpy(), y.numpy())),
        "held-out error": float((again.double() - x).square().mean()),
        "trustworthiness": float(trustworthiness(x[some].numpy(), z[some].double().numpy(), n_neighbors=5)),
    }


def verdict(table: dict[str, list[dict[str, float]]], measure: str, sign: int) -> str:
    """One sentence on who won, and whether more than chance says so."""
    means = {row: interval([f[measure] for f in found]) for row, found in table.items()}
    best = max(means, key=lambda row: sign * means[row][0])
    baseline = means["pca"][0]
    beating = [r for r, (_, low, high) in means.items() if r != "pca" and sign * ((low if sign > 0 else high) - baseline) > 0]  # fmt: skip
    whole = f"with their whole interval better than pca ({baseline:.5g}): {', '.join(beating) or 'none'}"
    return f"{measure}: {best} won with {means[best][0]:.5g}; {whole}."


def blur(args: argparse.Namespace, data: Data, test: Examples) -> None:
    table: dict[str, list[dict[str, float]]] = {}
    for row in args.models or BLUR:
        name, fields = BLUR[row]
        began, found, steps = time.perf_counter(), [], []
        for seed in range(args.seeds):
            run = train(args, data, name, fields, seed)
            found.append(sharp(run, data, test, seed))
            steps.append(run.card["steps"])
            print(f"  {row} seed {seed}, {steps[-1]} steps: {found[-1]}", flush=True)
        table[row] = found
        tell(args, data, row, found, steps, time.perf_counter() - began)
    show(table, ["samples", "means", "reconstructions"])


@torch.no_grad()
def sharp(run: Run, data: Data, test: Examples, seed: int) -> dict[str, float]:
    """Sharpness of all that a run can draw, and of what it gives back."""
    top, n = data.levels - 1, min(len(test.x), 2000)
    real = test.x.float() / top
    fakes = {}
    if run.entry.samples:
        fakes["samples"] = run.sample(n, seed=seed).float() / top
        fakes["means"] = run.sample(n, seed=seed, mean=True).float() / top
    with run.computing():
        again = values_of(run, data, Codes(run, test).decoded())
    fakes["reconstructions"] = again.view(test.x.shape)
    return {name: sharpness(real, fake)["value"] for name, fake in fakes.items()}


def tell(
    args: argparse.Namespace,
    data: Data,
    row: str,
    found: list[dict[str, float]],
    steps: list[int],
    took: float,
) -> None:
    facts = {"data": data.name, **length(args), "fields": args.set, "trained_steps": steps}
    for measure in found[0]:
        values = [one[measure] for one in found]
        metric = measure if args.task == "codes" else f"sharpness of {measure}"
        record("latent_quality", values, task=args.task, model=row, **facts, metric=metric, seconds=took)


def show(table: dict[str, list[dict[str, float]]], measures: Sequence[str] | dict[str, int]) -> None:
    """A table of means and intervals over seeds."""
    print("| " + " | ".join(["", *measures]) + " |\n|" + "---|" * (len(measures) + 1))
    for row, found in table.items():
        cells = []
        for measure in measures:
            mean, low, high = (
                interval([one[measure] for one in found]) if measure in found[0] else (None, 0, 0)
            )
            known = (
                f"{mean:.4g}" + (f" [{low:.4g}, {high:.4g}]" if len(found) > 1 else "")
                if mean is not None
                else "–"
            )
            cells.append(known)
        print("| " + " | ".join([row, *cells]) + " |")


if __name__ == "__main__":
    main()
