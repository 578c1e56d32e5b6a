"""Whatever moment a run is killed at, it can be gone on with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "kills.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks")
def test_a_killed_run_ends_in_the_same_bundle_and_leaves_nothing():
    words = [sys.executable, str(SCRIPT), "3", str(len(os.environ))]  # not always the same moments
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("0 of 3 went wrong\n")
