"""`pangen sample`: draw from a run, to the terminal or a file."""

from __future__ import annotations

import argparse
import io
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pangen.cli.options import add_machine, add_seed, check_writable, limit_threads, whole
from pangen.cli.parser import values
from pangen.errors import PangenError, unknown
from pangen.files import write_bytes, write_text

if TYPE_CHECKING:
    from torch import Tensor

    from pangen.run import Run

ENDINGS = {".png": "a picture", ".npy": "an array", ".txt": "text"}
RAMP = " .:-=+*#%@"
"""Characters from dark to bright."""
EPILOG = """Settings of the model's sampler are options as well, such as --steps 20 for ddpm."""


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("sample", help="draw samples from a run", epilog=EPILOG)
    parser.add_argument("path", metavar="RUN", help="the folder of a run")
    parser.add_argument("-n", type=whole("-n", 1), default=16, metavar="N", help="how many (16)")
    add_seed(parser, "the samples")
    parser.add_argument(
        "--given", metavar="LABEL", help="the class to draw from (all, as often as they occur)"
    )
    parser.add_argument("-o", "--out", metavar="FILE", help=".png a picture, .npy the raw array, .txt text")
    add_machine(parser)
    parser.set_defaults(run=run, takes_extras=True)


def run(args: argparse.Namespace) -> int:
    out = Path(args.out) if args.out else None
    if out is not None:
        if out.suffix not in ENDINGS:
            kinds = ", ".join(f"{ending} ({what})" for ending, what in ENDINGS.items())
            raise PangenError(f"cannot write samples to {out}: its name must end in one of {kinds}.")
        check_writable(out)
    limit_threads(args.threads)
    from pangen.run import load_run

    with redirect_stdout(sys.stderr):
        found = load_run(args.path, device=args.device)
        how = sampler_settings(found, values(args.extras))
        if out is not None:
            _check_ending(out, found)
        x = found.sample(args.n, args.given, seed=args.seed or 0, **how)
    if out is not None:
        _write(out, x, found)
        print(f"{args.n} samples: {out}")
    else:
        print(preview(x, found.codec))
    return 0


def sampler_settings(found: Run, given: dict[str, Any]) -> dict[str, Any]:
    """Settings of the model's `trajectory`, checked against its signature."""
    import inspect
    from typing import get_type_hints

    import pydantic

    trajectory = type(found.model).trajectory
    parameters = inspect.signature(trajectory).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "generator"]
    types = get_type_hints(trajectory)
    for name, value in given.items():
        if name not in known:
            hint = f"the sampler of {found.entry.name} has "
            hint += f"--{', --'.join(known)}." if known else "no settings."
            raise unknown("option", f"--{name}", [f"--{k}" for k in known], hint=hint)
        try:
            given[name] = pydantic.TypeAdapter(types.get(name, Any)).validate_python(value)
        except pydantic.ValidationError as error:
            message = error.errors()[0]["msg"]
            raise PangenError(f"--{name} {value}: {message[0].lower() + message[1:]}.") from None
    return given


def preview(x: Tensor | tuple[str, ...], codec: Any) -> str:
    """Text and numbers as they are; images as a row of characters for each row of pixels."""
    if isinstance(x, tuple):
        return "\n".join(x) if codec.lines else "\n\n".join(x)
    if x.ndim == 2:
        return "\n".join(" ".join(f"{v:.6g}" for v in row) for row in x.tolist())
    step = max(-(-x.shape[-1] // 32), 1)
    grey = x[:, :, ::step, ::step].float().mean(1) / (codec.levels - 1)
    shade = (grey * (len(RAMP) - 1)).round().long()
    across = max(78 // (2 * shade.shape[-1] + 2), 1)
    blocks = []
    for start in range(0, len(shade), across):
        rows = zip(*(image.tolist() for image in shade[start : start + across]), strict=True)
        blocks.append(
            "\n".join("  ".join("".join(RAMP[v] * 2 for v in line) for line in row) for row in rows)
        )
    return "\n\n".join(blocks)


def _check_ending(out: Path, found: Run) -> None:
    text, image = found.codec.name == "characters", found.codec.space.is_image
    fits = {".png": not text, ".npy": not text, ".txt": text}
    if not fits[out.suffix]:
        kind = "text" if text else "images" if image else "vectors"
        endings = " or ".join(ending for ending, ok in fits.items() if ok)
        raise PangenError(
            f"{found.entry.name} draws {kind} here; write them to a file that ends in {endings}."
        )


def _write(out: Path, x: Tensor | tuple[str, ...], found: Run) -> None:
    if isinstance(x, tuple):
        write_text(out, "\n".join(x) + "\n")
        return
    if out.suffix == ".npy":
        import numpy as np

        content = io.BytesIO()
        np.save(content, x.numpy())
        write_bytes(out, content.getvalue())
    else:
        from pangen.evaluation.images import picture, png

        write_bytes(out, png(picture(x, getattr(found.codec, "levels", 0))))
