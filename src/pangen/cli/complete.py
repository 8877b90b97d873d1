"""`pangen complete`: go on from a text."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pangen.cli.examples import check_name, preview
from pangen.cli.options import add_json, add_machine, add_seed, add_text, limit_threads, text_of, whole
from pangen.cli.output import print_json
from pangen.files import write_text

if TYPE_CHECKING:
    from pangen.codecs import Text
    from pangen.run import Run

EPILOG = """Settings of the sampler are options as well: --temperature 0.8 --top_k 20 --top_p 0.9 --repetition 1.2."""


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("complete", help="go on from a text", epilog=EPILOG)
    parser.add_argument("path", metavar="RUN", help="the folder of a run on text")
    add_text(parser, "where to go on from (nothing)")
    parser.add_argument("-n", type=whole("-n", 1), default=1, metavar="N", help="how many (1)")
    add_length(parser)
    add_seed(parser, "what is drawn")
    parser.add_argument(
        "--given", metavar="LABEL", help="the class to draw from (all, as often as they occur)"
    )
    parser.add_argument("-o", "--out", metavar="FILE", help=".txt, instead of the terminal")
    add_json(parser)
    add_machine(parser)
    parser.set_defaults(run=run, takes_extras=True)


def add_length(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--length", type=whole("--length", 1), metavar="N", help="tokens at most (the model's context)"
    )


def run(args: argparse.Namespace) -> int:
    out = Path(args.out) if args.out else None
    check_name(out, [".txt"])
    limit_threads(args.threads)
    prompt = text_of(args, needed=False)
    from pangen.cli.sample import sampler_settings
    from pangen.run import load_run
    from pangen.tasks.text import complete, with_text

    with redirect_stdout(sys.stderr):
        found = with_text(load_run(args.path, device=args.device))
        how = sampler_settings(found, args.extras)
        tell_kept(found, prompt)
        texts = complete(
            found, prompt, args.n, length=args.length or 0, given=args.given, seed=args.seed or 0, **how
        )
    if out is not None:
        write_texts(out, [prompt + one.text for one in texts], found)
    if args.json:
        facts = {"run": args.path, "prompt": prompt, "completions": [one._asdict() for one in texts]}
        print_json(facts | ({"file": str(out)} if out else {}))
    elif out is not None:
        print(f"{args.n} texts: {out}")
    elif args.n == 1:
        print(prompt + texts[0].text)
    else:
        for i, one in enumerate(texts, 1):
            print(f"{'' if i == 1 else chr(10)}{i}: {one.nats:.2f} nats, {one.tokens} tokens")
            print(prompt + one.text)
    return 0


def tell_kept(found: Run, prompt: str) -> None:
    """Say so when the model does not see all of a prompt."""
    from pangen.tasks.text import kept, read_prompt

    tokens, context = read_prompt(found, prompt), cast("Text", found.codec).context
    if (seen := len(kept(found, tokens))) < len(tokens):
        print(
            f"the prompt has {len(tokens)} tokens and the context {context}: the model sees the last {seen}.",
            file=sys.stderr,
        )


def write_texts(out: Path, texts: Sequence[str], found: Run) -> None:
    """As the terminal would show them."""
    write_text(out, preview(tuple(texts), found.codec) + "\n")
