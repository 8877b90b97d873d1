"""`pangen forecast`: what follows a series, or how good that has been."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pangen.cli.examples import write_picture
from pangen.cli.options import (
    add_data,
    add_json,
    add_machine,
    add_seed,
    check_writable,
    data_options,
    limit_threads,
    whole,
)
from pangen.cli.output import print_json, print_numbers
from pangen.errors import PangenError
from pangen.files import write_text

if TYPE_CHECKING:
    from pangen.data.series import Series

QUANTILES = (0.025, 0.05, 0.1, 0.5, 0.9, 0.95, 0.975)
"""The ends of 80, 90 and 95 % intervals, and the median."""
SHOWN = 4
"""Times the horizon of the past that a plot shows."""


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("forecast", help="what follows a series, with its quantiles")
    parser.add_argument("path", metavar="RUN", help="the folder of a run on a series")
    parser.add_argument(
        "data", nargs="?", metavar="DATA", help="another series to go on from than that it was trained on"
    )
    parser.add_argument(
        "--horizon", type=whole("--horizon", 1), required=True, metavar="N", help="steps to go on"
    )
    parser.add_argument(
        "-n", type=whole("-n", 2), default=512, metavar="N", help="paths that quantiles are found from (512)"
    )
    add_seed(parser, "the paths")
    parser.add_argument("-o", "--out", metavar="FILE", help=".csv, instead of the terminal")
    parser.add_argument("--plot", metavar="FILE", help=".png, the end of the past and the intervals after it")
    parser.add_argument(
        "--score", action="store_true", help="forecast again and again over the test split, and measure"
    )
    parser.add_argument(
        "--every",
        type=whole("--every", 1),
        metavar="N",
        help="steps between forecasts to score (the horizon)",
    )
    add_json(parser)
    add_machine(parser)
    add_data(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    out, plot = (Path(name) if name else None for name in (args.out, args.plot))
    for path, ending in ((out, ".csv"), (plot, ".png")):
        if path is not None and path.suffix != ending:
            raise PangenError(f"cannot write {path}: its name must end in {ending}.")
        if path is not None:
            check_writable(path)
    if args.score and (out or plot):
        raise PangenError("scores are printed: leave out one of --score and the files -o and --plot.")
    if args.every and not args.score:
        raise PangenError("--every is a distance of scored forecasts; add --score.")
    options = data_options(args)
    if options and not args.data:
        raise PangenError("options for reading data need DATA; a run remembers how its own data was read.")
    limit_threads(args.threads)
    from pangen.data import load_data
    from pangen.evaluation.kind import check_kind, data_of
    from pangen.run import load_run
    from pangen.tasks.forecast import forecast, room_for, score_forecasts, with_series

    with redirect_stdout(sys.stderr):
        found = with_series(load_run(args.path, device=args.device))
        room_for(found, args.horizon)
        data = load_data(args.data, **options) if args.data else data_of(found)
        check_kind(found, data)
        series = cast("Series", data.series)
        settings = {"horizon": args.horizon, "paths": args.n, "seed": args.seed or 0}
        if args.score:
            scores = score_forecasts(found, data, every=args.every, **settings)
        else:
            paths = forecast(found, series.values, **settings)
    if args.score:
        print_json(scores) if args.json else print("\n".join(_lines(scores)))
        return 0
    header, rows = _table(series, paths)
    if out is not None:
        content = io.StringIO()
        csv.writer(content, lineterminator="\n").writerows([header, *rows])
        write_text(out, content.getvalue())
    if plot is not None:
        write_picture(plot, _picture(series, paths))
    if args.json:
        print_json({"run": args.path, "forecast": [dict(zip(header, row, strict=True)) for row in rows]})
    elif out is None and plot is None:
        print_numbers(
            header, [[c if isinstance(c, str) else f"{c:.5g}" for c in row] for row in rows], left=2
        )
    else:
        files = ", ".join(str(path) for path in (out, plot) if path)
        print(f"{args.horizon} steps after {series.clock.at(series.values.shape[1] - 1)}: {files}")
    return 0


def _table(series: Any, paths: Any) -> tuple[list[str], list[list[Any]]]:
    """A row for each time and column: their names, then the mean and quantiles."""
    from pangen.evaluation.forecast import quantile

    numbers = [paths.double().mean(0), *(quantile(paths, p) for p in QUANTILES)]
    last = series.values.shape[1]
    rows = [
        [series.clock.at(last + t), column, *(float(f"{each[i, t]:.7g}") for each in numbers)]
        for t in range(paths.shape[2])
        for i, column in enumerate(series.columns)
    ]
    return ["time", "column", "mean", *(f"q{100 * p:g}" for p in QUANTILES)], rows


def _picture(series: Any, paths: Any) -> Any:
    from pangen.evaluation.series import fan

    steps, horizon = series.values.shape[1], paths.shape[2]
    first = max(steps - SHOWN * horizon, 0)
    times = [series.clock.at(i) for i in (first, steps - 1, steps + horizon - 1)]
    return fan(series.values[:, first:], paths, series.columns, times)


def _lines(scores: Mapping[str, Any]) -> list[str]:
    title = (
        f"{scores['model']} on {scores['data']}, {scores['split']} split: {scores['origins']} forecasts of "
        f"{scores['horizon']} steps, {scores['paths']} paths each"
    )
    names = {"crps": "CRPS", "mae": "MAE of the median"}
    found = {name: score for name, score in scores.items() if isinstance(score, Mapping)}
    lines = [title]
    for name, score in found.items():
        low, high = score["interval"]
        shown = names.get(name) or f"{name.removeprefix('coverage_')} % interval covers"
        lines.append(f"  {shown:22}{score['value']:.4g} [{low:.4g}, {high:.4g}]")
    return lines
