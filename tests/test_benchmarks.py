"""The benchmark for machines with a GPU runs on a processor, too: where it is tried before it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.py"


@pytest.mark.heavy
def test_the_gpu_benchmark_compares_what_agrees(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--small", "--json", "rows.json"]
    outcome = subprocess.run(
        [*command, "agreement", "step", "training"], cwd=tmp_path, capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len(rows) == 9
    exact = rows["agreement/efficientnet_b0, float32"]
    assert max(exact["start"], exact["output"], exact["states"]) < 1e-4
    assert max(row["difference"] for key, row in rows.items() if "difference" in row) < 2e-2
