"""The table and the picture of the README, from a comparison that was kept.

pangen compare digits -o demo
python benchmarks/readme.py demo
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

import pangen
from pangen.evaluation.images import grid
from pangen.files import read_json, write_text

ROOT = Path(__file__).parents[1]
SIGN = {"exact": "", "lower bound": "≤ ", "estimate": "≈ "}
PICTURED = ("independent", "kde", "rbm", "vae", "gan", "realnvp", "pixelcnn", "ddpm", "consistency")
SHOWN = 16
"""Samples of each pictured model."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    result = read_json(folder / "compare.json")
    text = table(result)
    between(ROOT / "README.md", "table", text)
    between(ROOT / "docs" / "families.md", "tradeoffs", text)
    picture(result, folder).save(ROOT / "docs" / "assets" / "samples.png", optimize=True)


def table(result: dict[str, Any]) -> str:
    """The comparison in Markdown, and what it was run on."""
    head = "| model | bits/dim | Fréchet | coverage | trained on samples | train s | s / 1000 samples |\n|---|---|---|---|---|---|---|\n"
    rows = [line(row) for row in (*result["rows"], *result["baselines"])]
    machine, features = result["machine"], result["protocol"]["features"]
    length = (
        f"{result['budget']:g} s of training a model"
        if result["budget"]
        else f"{result['steps']} steps a model"
    )
    note = (
        f"{length}, one seed, on {machine['processor']}, {machine['cores']} cores, {result['date'][:10]}. Bits/dim is of p(x) on 300 test "
        "images, lower is better: `≤` a bound, `≈` an estimate. Fréchet distance and coverage are in the space "
        f"“{features}”. “Trained on samples” is the accuracy on real digits of a classifier that saw samples only. "
        "A star marks a deep model that a classical baseline beats in that column."
    )
    return head + "".join(rows) + "\n" + note + "\n"


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    if "failed" in row:
        return f"| `{row['model']}` | failed: {row['failed']} | | | | | |\n"
    beaten, name = row.get("beaten_by", {}), row["model"]
    likelihood, fidelity, cost = row.get("likelihood", {}), row["fidelity"], row.get("cost", {})
    bits = "none"
    if "bits_per_dim" in likelihood:
        bits = f"{SIGN[likelihood['kind']]}{likelihood['bits_per_dim']:.3f}{'*' if beaten.get('likelihood') else ''}"
    elif not likelihood:
        bits = ""
    cells = [f"`{name}`" if "family" in row else name, bits]
    cells.append(
        f"{fidelity['frechet']['value']:.2f}{'*' if beaten.get('frechet') else ''}"
        if "frechet" in fidelity
        else "none"
    )
    cells.append(f"{fidelity['coverage']['value']:.2f}" if "coverage" in fidelity else "none")
    accuracy = row["classification"]
    cells.append(f"{100 * accuracy['value']:.1f} %" if "value" in accuracy else accuracy["none"])
    cells.append(f"{cost['train_seconds']:.1f}" if cost else "")
    cells.append(f"{cost['sample_seconds_per_1000']:.2f}" if cost else "")
    return "| " + " | ".join(cells) + " |\n"


def between(path: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of that name."""
    before = path.read_text()
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    write_text(path, re.sub(pattern, lambda m: m[1] + text + m[2], before, flags=re.S))


def picture(result: dict[str, Any], folder: Path) -> Image.Image:
    """A row of samples for each pictured model, real digits first."""
    data = pangen.load_data(result["data"])
    rows = {"real": data.test.x[:SHOWN]}
    for name in PICTURED:
        run = pangen.load_run(folder / "runs" / f"{name}-0", device="cpu")
        y = torch.arange(SHOWN) % 10 if run.codec.labels else None
        rows[name] = run.sample(SHOWN, y)
    font, margin = ImageFont.load_default(18), 130
    strips = [grid(x, data.levels, columns=SHOWN) for x in rows.values()]
    width, height = strips[0].size
    canvas = Image.new("RGB", (margin + width, (height + 6) * len(strips)), "white")
    draw = ImageDraw.Draw(canvas)
    for i, (name, strip) in enumerate(zip(rows, strips, strict=True)):
        canvas.paste(strip, (margin, i * (height + 6)))
        draw.text((6, i * (height + 6) + height // 2 - 10), name, fill="black", font=font)
    return canvas


if __name__ == "__main__":
    main()
