"""The promises of the command line: speed, pure JSON, files by their ending, Ctrl-C, resuming."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import pangen as library
from pangen.cli.options import seconds
from pangen.cli.sample import preview
from pangen.registry import entries
from pangen.run import load_run

PROGRAM = [sys.executable, "-m", "pangen"]


@pytest.mark.parametrize(
    "argv", [["--help"], ["models"], ["models", "--json"], ["data"], ["fit", "--help"], ["nosuch"]]
)
def test_answers_at_once_without_torch(argv):
    """Within 0.5 s of processor time, and no import of torch or numpy."""
    code = (
        "import sys, time; from pangen.cli.main import main; main(sys.argv[1:]); "
        "heavy = {'torch', 'numpy', 'pydantic'} & set(sys.modules); assert not heavy, heavy; "
        "print(time.process_time(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stderr.splitlines()[-1]) < 0.5


@pytest.mark.parametrize(
    ("set_before", "found"), [({}, "passive 1000"), ({"OMP_WAIT_POLICY": "active"}, "active None")]
)
def test_threads_wait_a_little_before_torch_is_imported(set_before, found):
    """Unless somebody has said how they wait."""
    code = (
        "import os, sys; from pangen.cli.main import main; main(['--version']); assert 'torch' not in sys.modules; "
        "print(os.environ['OMP_WAIT_POLICY'], os.environ.get('GOMP_SPINCOUNT'))"
    )
    clean = {
        k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    } | set_before
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean, check=True)
    assert done.stdout.splitlines()[-1] == found


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc's allocator alone is told")
@pytest.mark.parametrize(("set_before", "kept"), [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False)])
def test_memory_that_is_freed_is_not_asked_for_again(set_before, kept):
    """64 MiB are 16,384 pages or 32 huge ones, which the system hands out once; each time where somebody has set the allocator."""
    code = (
        "import resource; from pangen.cli.main import main; main(['--version'])\n"
        "for _ in range(10):\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt; bytes(1) * 2**26\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))} | set_before
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean, check=True)
    assert (int(done.stdout.splitlines()[-1]) < 24) == kept


def test_models_lists_every_entry_with_its_facts(pangen):
    listed = {card["name"]: card for card in pangen("models", "--json").json["models"]}
    assert set(listed) == set(entries())
    for name, entry in entries().items():
        assert listed[name]["density"] == entry.density
        assert listed[name]["accepts"] == list(entry.spaces)
    table = pangen("models").out
    assert all(name in table and entry.family in table for name, entry in entries().items())


@pytest.mark.parametrize(
    ("text", "value"), [("90", 90), ("60s", 60), ("2m", 120), ("1h", 3600), ("1.5m", 90), ("0.5s", 0.5)]
)
def test_budgets_are_read_in_seconds(text, value):
    assert seconds(text) == value


def test_fit_prints_one_json_object_whatever_libraries_print(pangen, here, monkeypatch):
    from pangen.families.classical.independent import Independent

    fit = Independent.fit_exactly

    def chatty(self, train, validation):
        print("a library talks on stdout")
        return fit(self, train, validation)

    monkeypatch.setattr(Independent, "fit_exactly", chatty)
    outcome = pangen("fit", "independent", "digits", "--json", "-o", "a-run")
    assert outcome.code == 0
    assert outcome.json["run"] == "a-run"
    assert outcome.json["state"] == "complete"
    assert "a library talks" in outcome.err
    assert load_run("a-run").sample(3).shape == (3, 1, 8, 8)


def test_fit_chooses_a_folder_and_says_what_to_do_next(pangen, here):
    outcome = pangen("fit", "independent", "digits")
    assert outcome.code == 0
    assert "runs/independent-digits" in outcome.out
    assert "pangen sample runs/independent-digits" in outcome.out
    assert (here / "runs/independent-digits/card.json").exists()


def test_fit_passes_recipe_fields_wherever_they_stand(pangen, here):
    argv = [
        "fit",
        "--model.smoothing",
        "0.5",
        "independent",
        "--seed=3",
        "digits",
        "--training.lr=1e-3",
        "-o",
        "r",
    ]
    assert pangen(*argv).code == 0
    recipe = load_run("r").recipe
    assert (recipe.model["smoothing"], recipe.training.lr, recipe.seed) == (0.5, 1e-3, 3)


def test_samples_are_the_python_api_s(pangen, here, digits_run):
    assert pangen("sample", digits_run, "-n", 5, "--seed", 4, "--given", 3, "-o", "x.npy").code == 0
    assert np.array_equal(np.load("x.npy"), library.sample(digits_run, 5, given="3", seed=4).numpy())


def test_sample_writes_a_picture(pangen, here, digits_run):
    outcome = pangen("sample", digits_run, "-n", 6, "-o", "x.png")
    assert outcome.code == 0, outcome.err
    with Image.open("x.png") as image:
        assert image.width * image.height >= 6 * 64
        assert len(image.getcolors(1 << 20)) > 2
    assert [p.name for p in here.iterdir()] == ["x.png"]


def test_sample_without_a_file_shows_the_images(pangen, digits_run):
    lines = pangen("sample", digits_run, "-n", 4).out.rstrip("\n").splitlines()
    assert len(lines) == 8  # four images of 8 rows stand side by side
    assert all(len(line) == 4 * 16 + 3 * 2 for line in lines)


def test_preview_of_images_is_dark_to_bright(digits_run):
    codec = load_run(digits_run).codec
    image = torch.tensor([[[[0, 8], [12, 16]]]], dtype=torch.uint8)
    assert preview(image, codec) == "  ==\n##@@"


def test_run_s_own_sampler_settings_are_options(pangen, digits_run, monkeypatch):
    from pangen.families.classical.independent import Independent

    plain, seen = Independent.trajectory, []

    def with_setting(self, n, y=None, *, generator: torch.Generator, steps: int = 5):
        seen.append(steps)
        yield from plain(self, n, y, generator=generator)

    monkeypatch.setattr(Independent, "trajectory", with_setting)
    assert pangen("sample", "--steps", 20, digits_run, "-n", 2).code == 0
    assert seen == [20]
    wrong = pangen("sample", digits_run, "--stps", 20)
    assert wrong.code == 2
    assert "'--steps'" in wrong.err
    assert "--steps" in pangen("sample", digits_run, "--steps", "soon").err


def test_one_chunk_of_a_fit_s_log_is_shown_without_a_terminal(pangen, here):
    outcome = pangen("fit", "made", "digits", "--steps", 20, "--model.width", 16, "-o", "r")
    lines = outcome.err.strip().splitlines()
    assert outcome.code == 0
    assert 5 <= len(lines) <= 11
    assert "step 20/20" in lines[-1]
    assert "steps/s" in lines[-1]


def test_ctrl_c_leaves_a_run_that_samples_and_resumes(pangen, here):
    """A training that is stopped and resumed ends with the very weights of one that was not."""
    fields = ["--steps", "400", "--model.width", "16", "--training.validations", "4", "--threads", "1"]
    command = [*PROGRAM, "fit", "made", "digits", *fields, "-o", "stopped", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = here / "stopped/metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (metrics.exists() and metrics.read_text().count("\n") >= 2):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    card = json.loads(out)
    assert card["state"] == "interrupted"
    assert 0 < card["steps"] < 400
    assert load_run("stopped").sample(2).shape == (2, 1, 8, 8)

    resumed = pangen("fit", "made", "digits", "-o", "stopped", "--resume", "--steps", 400, "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json["state"] == "complete"
    assert pangen("fit", "made", "digits", *fields, "-o", "whole").code == 0
    one, other = (load_run(name).model.state_dict() for name in ("stopped", "whole"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_ctrl_c_before_training_writes_nothing(pangen, here, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pangen.data.load_data", interrupted)
    outcome = pangen("fit", "independent", "digits")
    assert (outcome.code, outcome.err, list(here.iterdir())) == (130, "pangen: interrupted.\n", [])


def test_a_closed_pipe_is_no_error():
    process = subprocess.Popen([*PROGRAM, "models"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()  # what `| head` does, before anything is written
    assert (process.stderr.read(), process.wait()) == (b"", 0)


def test_compare_goes_on_after_a_model_that_fails(pangen, here, monkeypatch, quick_features):
    """Its row says why, the exit code is 1, stdout is one object, and the same command goes on."""
    from pangen.families.autoregressive.made import MADE

    def broken(self, batch, progress):
        raise RuntimeError("the loss is broken")

    monkeypatch.setattr(MADE, "loss", broken)
    argv = ["compare", "digits", "--models", "made,independent", "--steps", 2, "-o", "c"]
    outcome = pangen(*argv, "--json")
    assert outcome.code == 1, outcome.err
    result = outcome.json
    assert {"data", "rows", "baselines"} <= set(result)
    failed, good = result["rows"]
    assert (failed["model"], good["model"]) == ("made", "independent")
    assert "the loss is broken" in failed["failed"]
    assert [row["model"] for row in result["baselines"]] == [
        "held-out real data",
        "copies of the training set",
        "real, one half missing",
        "one good example repeated",
        "independent values",
        "noise",
    ]
    assert {"model", "family", "data", "split", "seed", "likelihood", "fidelity", "cost"} <= set(good)
    assert {"nats", "stderr", "kind", "bits_per_dim", "dims"} <= set(good["likelihood"])
    cost = {"parameters", "train_seconds", "sample_seconds_per_1000", "network_evaluations"}
    assert cost <= set(good["cost"])
    assert (here / "c/report.html").stat().st_size > 1000

    one = pangen("evaluate", "c/runs/independent-0", "--json")
    assert one.code == 0
    assert {k: v for k, v in one.json.items() if k != "cost"} == {
        k: v for k, v in good.items() if k != "cost"
    }
    assert "bits/dim (exact)" in pangen("evaluate", "c/runs/independent-0").out
