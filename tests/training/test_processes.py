"""Trainings in processes of their own: killed at any moment, and several of them together."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pcgraph.cli import app

from .nets import SPEC

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
TRAIN = """
train: {epochs: 3, batch: 50, validation: 0.05, checkpoint: 5, optimizer: {name: AdamW}, augment: {shift: 1}}
tune: {steps: [1, 4], noise: {gaussian: [0, 1]}, validation: 0.05}
"""


def command(folder: Path, *options: str, verb: str = "train") -> list[str]:
    spec = folder / "tiny.yaml"
    spec.write_text(SPEC + TRAIN)
    arguments = ["-m", "pcgraph", verb, str(spec), "--trust", "--data", "digits", "--device", "cpu"]
    return [*arguments, "--tracker", "none", *options]


def run_here(words: list[str]) -> None:
    """The same command in this process, which has loaded torch already."""
    result = CliRunner().invoke(app, words[2:])
    assert result.exit_code == 0, result.stderr


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


def start(words: list[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def same(one: Path, other: Path) -> None:
    for name in ("weights.safetensors", "losses.csv", "spec.yaml"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def kill_and_resume(folder: Path, kills: int) -> None:
    """Kill the training at random moments after its first checkpoint, then let it end."""
    whole, killed = folder / "whole", folder / "killed"
    run_here(command(folder, "--out", str(whole)))
    moments = random.Random(kills)
    for _ in range(kills):
        before = len(list(killed.glob("checkpoints/step-*")))
        process = start(command(folder, "--out", str(killed), "--resume"))
        while process.poll() is None:
            if before or list(killed.glob("checkpoints/step-*")):
                break
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.3 if not before else 3.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = run(command(folder, "--out", str(killed), "--resume"))
    assert done.returncode == 0, done.stderr
    same(whole, killed)


def test_killed_and_resumed_ends_the_same(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, 1)


@pytest.mark.slow
def test_killed_ten_times_ends_the_same(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, 10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_signal_writes_a_checkpoint_and_says_how_to_go_on(tmp_path: Path, number: int) -> None:
    words = command(tmp_path, "--out", str(tmp_path / "run"), "--epochs", "1000", "--quiet")
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("run/checkpoints/step-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped after a checkpoint. To go on:" in errors
    assert f"--out {tmp_path / 'run'}" in errors
    assert "--resume" in errors
    assert "Traceback" not in errors


def curve(folder: Path) -> list[float]:
    with (folder / "losses.csv").open(newline="") as file:
        return [float(row["value"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(("verb", "rows"), [("train", 77 * 3 + 2), ("tune", 77 + 3)])
def test_two_processes_see_what_one_sees(tmp_path: Path, verb: str, rows: int) -> None:
    """Batches of 49, so that the shares differ; all losses, those of held-out images included."""
    options = ["--batch", "49", "--epochs", "1"]
    run_here(command(tmp_path, "--out", str(tmp_path / "one"), *options, verb=verb))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [*launcher, *command(tmp_path, "--out", str(tmp_path / "two"), "--quiet", *options, verb=verb)]
    two = run(words)
    assert two.returncode == 0, two.stderr
    assert two.stdout == f"Run folder: {tmp_path / 'two'}\n"
    first, second = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert len(first) == rows
    assert first == pytest.approx(second, abs=1e-5)
