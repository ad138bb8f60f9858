"""SIGKILL, SIGTERM and SIGINT at random moments: see `tests.faults.killing`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import SEEDS

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]


def kill(count: int, seed: int, folder: Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "tests.faults.killing", str(count), str(seed), str(folder)]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_killed_at_some_moments(tmp_path: Path) -> None:
    assert "survived" in kill(6, 1, tmp_path)


@pytest.mark.slow
def test_killed_at_many_moments(tmp_path: Path) -> None:
    print(kill(SEEDS or 1000, 2, tmp_path))
