"""The short version of `benchmarks/fuzz.py`: spoilt inputs are read, or refused in one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


def test_spoilt_inputs_end_well():
    command = [sys.executable, str(FUZZ), "--cases", "500", "--trial"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "0 defects in 500 cases." in found.stdout
