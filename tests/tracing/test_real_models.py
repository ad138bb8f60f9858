"""The command that reads real models, `benchmarks/models.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "models.py"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torchvision", "dense"])
def test_real_models_are_read_and_agree(kind: str) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--kind", kind], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
