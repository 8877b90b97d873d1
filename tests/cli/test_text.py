"""`complete`, and `sample --prompt`: the same texts by every way in, and a sentence for every mistake."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import pangen as package
from pangen.cli import sample
from pangen.tasks import complete, stream

BOOK = "It was the best of times, it was the worst of times; l'âge de raison. " * 40
SMALL = {"model.width": 16, "training.validations": 1, "chunk": 8}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models of a book and of names. Read only."""
    root = tmp_path_factory.mktemp("text")
    (root / "book.txt").write_text(BOOK)
    (root / "names.txt").write_text("\n".join(["anna", "ben", "clara", "dora"] * 10) + "\n")
    book = package.load_data(root / "book.txt", window=16)
    subwords = {**SMALL, "codec.vocabulary": 260}
    names = package.load_data(root / "names.txt", lines=True)
    for model, codec in (("gpt", None), ("gpt", "bytes"), ("gpt", "bpe"), ("rnn", None)):
        fields = subwords if codec == "bpe" else SMALL
        package.fit(
            model, book, out=root / f"{model}-{codec or 'characters'}", codec=codec, steps=20, recipe=fields
        )
    package.fit("ngram", book, out=root / "ngram-characters")
    package.fit("gpt", names, out=root / "names", steps=20, recipe=SMALL)
    return root


RUNS = ("gpt-characters", "gpt-bytes", "gpt-bpe", "rnn-characters", "ngram-characters")


@pytest.mark.parametrize("name", RUNS)
def test_one_text_by_every_way_in(pangen, runs, name):
    """Complete, stream, `pangen complete` and `pangen sample --prompt` draw the same; a seed decides it."""
    run = package.load_run(runs / name)
    told = {"length": 40, "seed": 3, "temperature": 0.9}
    texts = complete(run, "It was", 9, **told)
    assert complete(run, "It was", 2, **told) == texts[:2]
    assert complete(run, "It was", 2, **told | {"seed": 4}) != texts[:2]
    assert "".join(stream(run, "It was", **told)) == texts[0].text
    assert all(one.tokens == 40 and one.nats < 0 for one in texts)
    options = ("--length", 40, "--seed", 3, "--temperature", 0.9)
    one = pangen("complete", runs / name, "It was", *options)
    assert one == pangen("sample", runs / name, "--prompt", "It was", *options)
    assert one.out == f"It was{texts[0].text}\n"
    assert one.code == 0
    assert not one.err


def test_from_nothing_texts_are_the_samples(runs):
    """An empty prompt starts where an example starts."""
    run = package.load_run(runs / "gpt-characters")
    assert tuple(one.text for one in complete(run, "", 11, seed=2)) == run.sample(11, seed=2)
    names = package.load_run(runs / "names")
    assert tuple(one.text for one in complete(names, "", 11)) == names.sample(11)


def test_nats_are_those_of_the_whole_less_those_of_the_prompt(runs):
    """While all fits into the context: log p(text given prompt) = log p(prompt and text) - log p(prompt)."""
    import torch

    run = package.load_run(runs / "gpt-characters")
    for one in complete(run, "It was", 3, length=10, temperature=0.5):
        whole = torch.tensor([run.codec.tokens("It was" + one.text)])
        with torch.no_grad():
            nats = run.model.nats(run.model.logits(whole, None), whole)
        assert one.nats == pytest.approx(float(nats[0, 6:].sum()), abs=1e-4)


def test_a_piece_is_shown_as_soon_as_it_is_drawn(pangen, runs, monkeypatch):
    """Flushed token by token, and a character never by halves."""
    run = package.load_run(runs / "gpt-bytes")
    pieces = list(stream(run, "l'", length=60))
    assert "".join(pieces) == complete(run, "l'", length=60)[0].text
    assert len(pieces) > 40

    class Screen(io.StringIO):
        flushed = 0

        def flush(self):
            self.flushed += 1

    screen = Screen()
    args = SimpleNamespace(prompt="l'", n=None, length=60)
    monkeypatch.setattr("sys.stdout", screen)
    sample._go_on(run, args, None, {"seed": 0, "given": None})
    assert screen.flushed > len(pieces)


def test_several_texts_with_their_nats(pangen, runs):
    found = pangen("complete", runs / "names", "cl", "-n", 3)
    assert found.out.startswith("1: -")
    assert found.out.count(" nats, ") == 3
    facts = pangen("complete", runs / "names", "cl", "-n", 3, "--json").json
    assert facts["prompt"] == "cl"
    assert [sorted(one) for one in facts["completions"]] == [["nats", "text", "tokens"]] * 3
    assert found.out.count("\ncl") == 3
    written = pangen("complete", runs / "names", "cl", "-n", 3, "-o", "names.txt")
    assert written.out == "3 texts: names.txt\n"
    lines = Path("names.txt").read_text().splitlines()
    assert lines == ["cl" + one["text"] for one in facts["completions"]]
    assert pangen("sample", runs / "names", "--prompt", "cl", "-n", 3).out.splitlines() == lines


def test_prompts_from_files_and_standard_input(pangen, runs, monkeypatch):
    Path("prompt.txt").write_text("It was\n")
    direct = pangen("complete", runs / "gpt-bpe", "It was")
    assert pangen("complete", runs / "gpt-bpe", "--file", "prompt.txt") == direct
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"It was\r\n")))
    assert pangen("complete", runs / "gpt-bpe", "-") == direct
    assert pangen("complete", runs / "gpt-bpe").code == 0


def test_of_a_long_prompt_the_last_half_context_is_seen(pangen, runs):
    run, prompt = package.load_run(runs / "gpt-characters"), BOOK[:100]
    assert complete(run, prompt, 2) == complete(run, prompt[-8:], 2)
    found = pangen("complete", runs / "gpt-characters", prompt)
    assert found.err == "the prompt has 100 tokens and the context 16: the model sees the last 8.\n"
    assert found.out.startswith(prompt)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("complete {runs}/gpt-characters Ω", ["'Ω'", "--codec bytes"]),
        ("sample {runs}/gpt-characters --prompt Ω", ["'Ω'", "--codec bytes"]),
        ("complete {digits} It", ["independent", "not trained on text", "gpt"]),
        ("sample {digits} --prompt It", ["independent", "not trained on text"]),
        ("sample {digits} --length 9", ["not trained on text"]),
        ("complete {runs}/gpt-bpe --file latin.txt", ["latin.txt", "not UTF-8", "0xe9"]),
        ("complete {runs}/gpt-bpe --file gone.txt", ["gone.txt", "No such file"]),
        ("complete {runs}/gpt-bpe It --file latin.txt", ["one of TEXT and --file"]),
        ("complete {runs}/gpt-bpe It -n 0", ["-n", "at least 1"]),
        ("complete {runs}/gpt-bpe It --length 0", ["--length", "at least 1"]),
        ("complete {runs}/gpt-bpe It -o a.png", [".txt"]),
        ("complete {runs}/gpt-bpe It --temprature 1", ["'--temprature'", "'--temperature'"]),
        ("complete {runs}/gpt-bpe It --top_p 2", ["top_p"]),
        ("complete {runs}/gpt-bpe It --repetition 0.5", ["repetition"]),
        ("complete {runs}/gpt-bpe It --given x", ["without labels"]),
        ("complete {runs}/none It", ["no run folder"]),
        ("fit gpt {runs}/book.txt --codec bpe --codec.vocabulary 10", ["codec.vocabulary", "256"]),
        ("fit gpt {runs}/book.txt --codec.vocabulary 300", ["codec.vocabulary", "no settings"]),
        ("fit gpt {runs}/book.txt --model.positions rotry", ["model.positions", "rotary"]),
    ],
)
def test_a_mistake_is_one_sentence(pangen, runs, digits_run, command, words):
    Path("latin.txt").write_bytes(b"caf\xe9")
    found = pangen(*(word.format(runs=runs, digits=digits_run) for word in command.split()))
    assert (found.code, found.out) == (2, "")
    assert found.err.count("\n") == 1
    for word in words:
        assert word in found.err


def test_an_interrupted_fit_goes_on_with_its_codec(pangen, runs):
    """The settings of a codec are in the recipe, and a resumed run keeps them."""
    options = ("--codec", "bpe", "--codec.vocabulary", 260, "--model.width", 16, "--steps", 4)
    assert pangen("fit", "gpt", runs / "book.txt", *options, "-o", "run").code == 0
    Path("run/card.json").unlink()
    assert pangen("fit", "gpt", runs / "book.txt", "--resume", "-o", "run").code == 0
    assert package.load_run("run").codec.symbols == 260
    shutil.rmtree("run")
