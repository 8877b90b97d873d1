"""`pangen sample`: draw from a run, to the terminal or a file."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pangen import parallel
from pangen.cli.complete import add_length, tell_kept, write_texts
from pangen.cli.examples import check_fits, check_name, preview, write_examples
from pangen.cli.options import add_machine, add_seed, limit_threads, whole
from pangen.cli.parser import values
from pangen.errors import PangenError, unknown

if TYPE_CHECKING:
    from pangen.run import Run

EPILOG = """Settings of the model's sampler are options as well, such as --steps 20 for ddpm."""


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("sample", help="draw samples from a run", epilog=EPILOG)
    parser.add_argument("path", metavar="RUN", help="the folder of a run")
    parser.add_argument("-n", type=whole("-n", 1), metavar="N", help="how many (16; with a prompt 1)")
    parser.add_argument(
        "--prompt",
        metavar="TEXT",
        help="go on from this text, and show it as it is drawn; or draw what it describes",
    )
    add_length(parser)
    add_seed(parser, "the samples")
    parser.add_argument(
        "--given", metavar="LABEL", help="the class to draw from (all, as often as they occur)"
    )
    parser.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        help=".png a picture, .npy the raw array, .csv a table, .txt text, .wav sound",
    )
    add_machine(parser)
    parser.set_defaults(run=run, takes_extras=True)


def run(args: argparse.Namespace) -> int:
    out = Path(args.out) if args.out else None
    check_name(out)
    limit_threads(args.threads)
    from pangen.run import load_run

    with redirect_stdout(sys.stderr):
        found = load_run(args.path, device=args.device)
        how = sampler_settings(found, args.extras)
        if out is not None:
            check_fits(out, found)
    told = {"given": args.given, "seed": args.seed or 0, **how}
    if args.prompt is not None and found.answers:
        if args.given is not None:
            raise PangenError("--prompt and --given both say what to draw; leave out one.")
        told["given"] = args.prompt
    elif args.prompt is not None or args.length:
        return _go_on(found, args, out, told)
    n = args.n or 16
    with redirect_stdout(sys.stderr):
        x = found.sample(n, **told)
        _warn(found, x, told)
    if not parallel.is_first():  # all have the samples, and one writes them
        return 0
    if out is not None:
        write_examples(out, x, found)
        print(f"{n} samples: {out}")
    else:
        print(preview(x, found.codec))
    return 0


def _warn(found: Run, x: Any, told: dict[str, Any]) -> None:
    """Say what is wrong with samples, where the run knows how its data look."""
    from pangen.training.looks import sample_alarms

    looks, guidance = found.card.get("looks"), told.get("guidance", 1.0)
    alarms = sample_alarms(x, looks, guidance=guidance) if looks else {}
    if told["given"] is not None:
        alarms.pop("alike", None)  # one class may be
    for sentence in alarms.values():
        print(f"warning: {sentence}")


def _go_on(found: Run, args: argparse.Namespace, out: Path | None, told: dict[str, Any]) -> int:
    """Texts that follow a prompt; a single one is shown piece by piece."""
    from pangen.tasks.text import complete, stream, with_text

    prompt, n = args.prompt or "", args.n or 1
    told["length"] = args.length or 0
    tell_kept(with_text(found), prompt)
    if out is None and n == 1:
        print(prompt, end="", flush=True)
        for piece in stream(found, prompt, **told):
            print(piece, end="", flush=True)
        print()
        return 0
    texts = tuple(prompt + one.text for one in complete(found, prompt, n, **told))
    if out is not None:
        write_texts(out, texts, found)
        print(f"{n} samples: {out}")
    else:
        print(preview(texts, found.codec))
    return 0


def sampler_settings(found: Run, extras: dict[str, str | None]) -> dict[str, Any]:
    """Settings of the model's `trajectory`, as they stand on the command line, checked against its signature."""
    import inspect
    from typing import get_type_hints

    import pydantic

    trajectory = type(found.model).trajectory
    parameters = inspect.signature(trajectory).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "generator"]
    types = get_type_hints(trajectory)
    for option in extras:
        if option.removeprefix("--") not in known:
            hint = f"the sampler of {found.entry.name} has "
            hint += f"--{', --'.join(known)}." if known else "no settings."
            raise unknown("option", option, [f"--{k}" for k in known], hint=hint)
    given = values(extras)
    for name, value in given.items():
        try:
            given[name] = pydantic.TypeAdapter(types.get(name, Any)).validate_python(value)
        except pydantic.ValidationError as error:
            message = error.errors()[0]["msg"]
            raise PangenError(f"--{name} {value}: {message[0].lower() + message[1:]}.") from None
    return given
