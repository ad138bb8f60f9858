"""The command that reads real models, `benchmarks/models.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "models.py"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torchvision", "dense"])
def test_real_models_are_read_and_agree(kind: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    arguments = [sys.executable, str(SCRIPT), "--kind", kind, "--to", str(rows)]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.heavy
def test_a_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    one = {"kind": "dense", "name": "torchvision:r3d_18", "error": "x"}
    rows.write_text(json.dumps(one) + "\n")
    only = "torchvision:r3d_18,torchvision:squeezenet1_1"
    arguments = [sys.executable, str(SCRIPT), "--to", str(rows), "--only", only]
    assert subprocess.run(arguments).returncode == 1  # the failure is kept
    first, second = map(json.loads, rows.read_text().splitlines())
    assert (first, second["name"], second["names"]) == (one, "torchvision:squeezenet1_1", "equal")
    assert second["growth"] <= 3
    assert subprocess.run([*arguments, "--again"]).returncode == 0
    assert len(rows.read_text().splitlines()) == 3
