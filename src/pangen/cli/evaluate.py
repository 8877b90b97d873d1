"""`pangen evaluate`: how good a run is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

from pangen.cli.options import (
    add_data,
    add_features,
    add_json,
    add_machine,
    add_other_data,
    add_samples,
    add_seed,
    add_split,
    limit_threads,
    other_data_options,
)
from pangen.cli.output import print_json


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("evaluate", help="measure a run on held-out data")
    parser.add_argument("path", metavar="RUN", help="the folder of a run")
    add_other_data(parser)
    add_split(parser)
    add_samples(parser)
    add_features(parser)
    add_seed(parser, "the samples it is judged by")
    add_json(parser)
    add_machine(parser)
    add_data(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    options = other_data_options(args)
    limit_threads(args.threads)
    from pangen.api import evaluate, load_data, load_run

    with redirect_stdout(sys.stderr):
        found = load_run(args.path, device=args.device)
        data = load_data(args.data, **options) if args.data else None
        result = evaluate(
            found, data, split=args.split, seed=args.seed or 0, samples=args.samples, features=args.features
        )
    if args.json:
        print_json(result)
    else:
        print("\n".join(_lines(result)))
    return 0


def _lines(result: Mapping[str, Any]) -> list[str]:
    """The result for people: a line for each measure, with its interval; the rest is in `--json`."""
    named: dict[str, Mapping[str, Any]] = {
        "log p(x)": result["likelihood"],
        "log p(x given y)": result.get("likelihood_given_label", {}),
        "classifier": result.get("classifier", {}),
        "regret": result.get("regret", {}),
    }
    fidelity = result["fidelity"]
    named |= {"fidelity": fidelity} if "none" in fidelity else fidelity
    named |= {"train on synthetic": result["classification"], "near copies": result["near_copies"]}
    named |= {
        "members by samples": result["membership"],
        "members by log p": result["membership_by_likelihood"],
    }
    named |= {"sharpness": result.get("sharpness", {})}
    lines = [f"{result['model']} on {result['data']}, {result['split']} split"]
    for name, found in named.items():
        if found:
            lines.append(f"  {name.replace('_', ' '):22}{_measure(found)}")
    if "against_law" in result:
        lines.append(f"  {'from the law':22}{_law(result['against_law'])}")
    if "mixing" in result:
        lines += _mixing(result["mixing"])
    if "latent" in result:
        from pangen.evaluation.table import code_facts

        lines += [f"  {name:22}{text} {detail}" for name, text, detail in code_facts(result["latent"])]
    cost = result["cost"]
    for name, unit in (("parameters", ""), ("train_seconds", " s"), ("sample_seconds_per_1000", " s")):
        if cost.get(name) is not None:
            lines.append(f"  {name.replace('_seconds', '').replace('_', ' '):22}{cost[name]:,.6g}{unit}")
    return lines + [f"  warning: {warning}" for warning in result["training"]["warnings"]]


def _law(found: Mapping[str, Any]) -> str:
    modes, apart = found["modes"], found["apart"]
    told = [f"z {apart['z']:.1f}, p {apart['p']:.3f} on {apart['features']}, {apart['samples']} samples"]
    told += [f"{modes['found']} of {modes['of']} modes"] if modes["of"] > 1 else []
    return "; ".join([*told, f"{100 * found['impossible']:.3g} % impossible"])


def _mixing(found: Mapping[str, Any]) -> list[str]:
    if "none" in found:
        return [f"  {'chains':22}{found['none']}"]
    facts = (
        f"acceptance {found['acceptance']:.2f}, effective sample size {found['effective_sample_size']:.0f} "
        f"of {found['chains'] * found['draws']}, R-hat {found['r_hat']:.3f}"
    )
    warning = (
        "  warning: the chains have not mixed, so samples depend on where they started: try more `sweeps`."
    )
    return [f"  {'chains':22}{facts}", *([] if found["mixed"] else [warning])]


def _measure(found: Mapping[str, Any]) -> str:
    if "none" in found:
        return f"none: {found['none']}"
    if "nats" in found:
        bits = f", {found['bits_per_dim']:.3f} bits/dim" if found.get("bits_per_dim") is not None else ""
        kind = f" ({found['kind']})" if "kind" in found else ""
        return f"{found['nats']:.3f} ± {found['stderr']:.3f} nats{bits}{kind}"
    low, high = found["interval"]
    where = (
        f" on {found['features']}" if "features" in found else f" by {found['by']}" if "by" in found else ""
    )
    return f"{found['value']:.4g} [{low:.4g}, {high:.4g}]{where}, {found['samples']} samples"
