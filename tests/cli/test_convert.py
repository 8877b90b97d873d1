"""`pangen convert` and `pangen frontier`: what they make, what they count, and the mistakes one can make with them."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections import Counter

import pytest
import torch

import pangen as library
from pangen.evaluation.frontier import frontier, most_steps
from pangen.samplers.choice import choose

SMALL = {"model.width": 16, "training.validations": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Hardly trained, of moons and of digits."""
    folder = tmp_path_factory.mktemp("convert")
    for model, data in (("edm", "moons"), ("gan", "moons"), ("edm", "digits")):
        name = model if data == "moons" else data
        library.fit(model, data, steps=3, out=folder / name, device="cpu", recipe=SMALL)
    library.fit(
        "ddpm", "moons", steps=2, out=folder / "eps", device="cpu", recipe={**SMALL, "model.target": "eps"}
    )
    return folder


def test_a_student_is_like_its_teacher_and_lives_without_it(pangen, here, runs):
    shutil.copytree(runs / "digits", here / "teacher")
    outcome = pangen("convert", "teacher", "--steps", 2)
    assert outcome.code == 0, outcome.err
    assert "run:  teacher-consistency" in outcome.out
    recipe, teacher = (
        json.loads((here / name / "recipe.json").read_text()) for name in ("teacher-consistency", "teacher")
    )
    assert {k: recipe[k] for k in ("data", "codec", "conditional")} == {
        k: teacher[k] for k in ("data", "codec", "conditional")
    }
    told = {k: recipe["model"][k] for k in ("name", "method", "width", "target")}
    assert told == {"name": "consistency", "method": "distil", "width": 16, "target": "v"}
    assert recipe["model"]["teacher"] == str(here / "teacher")
    shutil.rmtree(here / "teacher")
    assert pangen("sample", "teacher-consistency", "-n", 2, "--given", 3, "--steps", 2).code == 0
    again = pangen(
        "fit", "consistency", "digits", "-o", "b", "--model.method", "tune", "--model.teacher", "teacher"
    )
    assert (again.code, again.err) == (
        2, "pangen: there is no run folder 'teacher'; `pangen fit MODEL DATA -o teacher` makes one.\n",
    )  # fmt: skip
    assert not (here / "b").exists()


def test_any_denoiser_can_be_converted(pangen, here, runs):
    found = pangen("convert", runs / "edm", "--method", "tune", "--steps", 2, "-o", "tuned", "--json").json
    assert found["state"] == "complete"
    assert pangen("convert", runs / "eps", "--steps", 2, "-o", "eps").code == 0
    assert json.loads((here / "eps/recipe.json").read_text())["model"]["target"] == "auto"


def test_a_flow_can_be_made_straight(pangen, here, runs):
    """By a reflow, from any diffusion model, with the fields that are asked for."""
    words = ("--to", "flow-matching", "--steps", 2, "-o", "first", "--model.path", 5, "--model.width", 8)
    assert pangen("convert", runs / "digits", *words).code == 0
    recipe = json.loads((here / "first/recipe.json").read_text())["model"]
    told = {k: recipe[k] for k in ("coupling", "teacher", "path", "width")}
    assert told == {"coupling": "reflow", "teacher": str(runs / "digits"), "path": 5, "width": 8}
    assert pangen("convert", "first", "--to", "flow-matching", "--steps", 2, "-o", "second").code == 0
    assert json.loads((here / "second/recipe.json").read_text())["model"]["width"] == 8
    shutil.rmtree(here / "first")
    assert pangen("sample", "second", "-n", 2, "--sampler", "euler", "--steps", 1).code == 0
    outcome = pangen("convert", runs / "digits", *words[:2], "-o", "second", "--resume")
    assert "second was started with model.teacher" in outcome.err


@pytest.mark.parametrize(
    ("to", "fields"), [("flow-matching", {"model.path": 4}), ("consistency", {"model.time": "continuous"})]
)
def test_an_interrupted_conversion_ends_as_if_it_had_not_been(here, runs, to, fields):
    """All that it draws, pairs too, follows from the step."""

    def stop(event):
        if event.step == 2:
            signal.raise_signal(signal.SIGINT)

    how = {"steps": 4, "device": "cpu", "recipe": {**fields, "training.validations": 2}}
    whole = library.convert(runs / "edm", to, **how)
    part = library.convert(runs / "edm", to, out=here / "part", report=stop, **how)
    assert part.card["state"] == "interrupted"
    done = library.convert(runs / "edm", to, out=here / "part", resume=True, device="cpu")
    assert done.card["state"] == "complete"
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, done.model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("gan",),
            "gan cannot be converted to consistency; convert a run of ddpm, .*",
        ),
        (("edm", "--to", "gan"), "unknown target 'gan': known: consistency, flow-matching."),
        (("edm", "--method", "distill"), "unknown method 'distill': did you mean .distil.."),
        (("edm", "--to", "flow-matching", "--method", "tune"), "unknown method 'tune': known: reflow."),
        (
            ("edm", "--model.tim", "continuous"),
            "unknown recipe field 'model.tim': did you mean 'model.time'.",
        ),
        (("edm", "--tim", "continuous"), "unknown option '--tim': did you mean '--to'."),
        (("edm", "-o", "taken"), "taken already exists; choose another -o, or go on with --resume."),
        (("edm", "--resume"), "there is no run to resume in .*"),
        (
            ("eps", "--method", "tune"),
            "tuning starts from the weights of .*, which do not fit: take .*distil.",
        ),
        (("nothing",), "there is no run folder '.*nothing'; .*"),
    ],
)
def test_what_cannot_be_converted(pangen, here, runs, words, sentence):
    (here / "taken").mkdir()
    (here / "taken/file").touch()
    first, *rest = words
    outcome = pangen("convert", runs / first, *([] if "-o" in words else ["-o", "new"]), *rest)
    assert outcome.code == 2
    assert re.fullmatch(f"pangen: {sentence}\n", outcome.err), outcome.err
    assert not (here / "new").exists()


def test_a_teacher_of_other_data_is_refused(runs):
    recipe = {"model.method": "distil", "model.teacher": str(runs / "edm")}
    with pytest.raises(library.PangenError, match="learnt other data than these"):
        library.fit("consistency", "digits", steps=1, recipe=recipe)


def test_runs_from_memory_are_refused(runs):
    with pytest.raises(library.PangenError, match="save it first"):
        library.convert(library.fit("edm", "moons", steps=1, device="cpu", recipe=SMALL))
    run = library.load_run(runs / "edm")
    for kwargs, match in (({"to": "x"}, "unknown target"), ({"method": "x"}, "unknown method")):
        with pytest.raises(library.PangenError, match=match):
            library.convert(run, **kwargs)


# -- frontier ---------------------------------------------------------------------------------------


def test_points_cost_what_was_counted(pangen, here, runs, monkeypatch):
    """The denoiser is asked as often as a point says, and the table has every point."""
    assert pangen("convert", runs / "edm", "--steps", 2, "-o", "one").code == 0
    outcome = pangen(
        "frontier", runs / "edm", "one", runs / "gan", "--nfe", "1,2,4,7", "--samplers", "heun,dpmpp,adaptive",
        "-n", 40, "-o", "found", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert json.loads((here / "found/frontier.json").read_text()) == outcome.json
    assert (here / "found/frontier.svg").read_text().startswith("<svg")
    points = [(p["model"], p["sampler"], p["steps"], p["evaluations"]) for p in outcome.json["points"]]
    assert points == [
        *(("edm", "heun", steps, 2 * steps - 1) for steps in (1, 2, 4)),
        *(("edm", "dpmpp", steps, steps) for steps in (1, 2, 4, 7)),
        *(("consistency", "its own", steps, steps) for steps in (1, 2, 4, 7)),
        ("gan", "its own", None, 1),
    ]
    run, calls = library.load_run(runs / "edm"), Counter()
    original = run.model.denoise
    monkeypatch.setattr(run.model, "denoise", lambda *x: calls.update([0]) or original(*x))
    for model, sampler, steps, evaluations in points:
        if model == "edm":
            calls.clear()
            run.sample(run.model.chunk, sampler=sampler, steps=steps)
            assert calls[0] == evaluations
    left = {(one["sampler"], one.get("asked")): one["why"] for one in outcome.json["left_out"]}
    assert left[("heun", 2)] == "heun takes the same 1 steps as before"
    assert "has no steps" in left[("adaptive", None)]
    for point in outcome.json["points"]:
        low, high = point["frechet"]["interval"]
        assert low <= point["frechet"]["value"] <= high
        assert point["sample_seconds_per_1000"] > 0


def test_guidance_counts_two(runs, quick_features):
    found = frontier(runs / "digits", nfe=[1, 4, 8], samplers=["ddim", "heun"], guidance=2.0, samples=20)
    points = [(p["sampler"], p["steps"], p["evaluations"]) for p in found["points"]]
    assert points == [("ddim", 2, 4), ("ddim", 4, 8), ("heun", 1, 2), ("heun", 2, 6)]
    assert {one["why"] for one in found["left_out"]} == {"needs more"}
    assert "--guidance 2" in found["command"]


def test_steps_are_the_most_that_cost_no_more():
    for evaluations in range(1, 20):
        for name in ("heun", "dpmpp", "corrected"):
            made = [choose(name, {}, {"steps": steps}).evaluations for steps in range(1, 30)]
            steps = most_steps(lambda s, name=name: choose(name, {}, {"steps": s}), evaluations)
            assert made[steps - 1] <= evaluations < made[steps]
    assert most_steps(lambda s: choose("heun", {}, {"steps": s}), 0) == 0


def test_the_table_names_what_is_left_out(pangen, here, runs):
    outcome = pangen("frontier", runs / "edm", "--nfe", "1,2", "--samplers", "heun", "-n", 20)
    assert outcome.code == 0, outcome.err
    assert "held-out real data" in outcome.out
    assert f"left out: {runs / 'edm'}, heun at 2: heun takes the same 1 steps as before" in outcome.out
    assert "plot: runs/frontier/frontier.svg" in outcome.out
    assert (here / "runs/frontier/frontier.json").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("edm", "--nfe", "0"), "--nfe takes a whole number of at least 1, not '0'."),
        (
            ("edm", "--nfe", ","),
            "network evaluations are whole numbers from 1; ask for some, such as 1,2,4,8.",
        ),
        (("edm", "--samplers", "hein"), "unknown sampler 'hein': did you mean .heun.."),
        (("edm", "--samplers", ","), "a frontier needs at least one run and one sampler."),
        (("edm", "--guidance", "much"), "--guidance takes a number, such as 2, not 'much'."),
        (
            ("edm", "digits"),
            ".*digits was trained on .digits. and .*edm on .moons.; only runs of the same data .*",
        ),
        (("nothing",), "there is no run folder '.*nothing'; .*"),
    ],
)
def test_what_has_no_frontier(pangen, here, runs, words, sentence):
    outcome = pangen(
        "frontier", *(runs / w if w in ("edm", "digits", "nothing") else w for w in words), "-o", "new"
    )
    assert outcome.code == 2
    assert re.fullmatch(f"pangen: {sentence}\n", outcome.err), outcome.err
    assert not (here / "new").exists()


def test_torch_is_left_as_it_was(runs):
    """A teacher is loaded without a trace in the caller's random state."""
    torch.manual_seed(3)
    before = torch.get_rng_state()
    library.convert(runs / "edm", steps=1, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
