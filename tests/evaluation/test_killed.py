"""An evaluation by two processes, one of which is killed: torchrun starts them again, and nothing is lost.

gloo hung here now and then, or was refused. Each worker writes its address under its rank into a store, and
reads those of the others. For that torch takes the store of torchrun's agent, without a prefix of the start
(`torch.distributed.rendezvous._create_c10d_store`: "we create a new TCPStore for every retry"). But the
agent keeps one store for all starts (`DynamicRendezvousHandler`), in which the addresses of the killed
workers still stand. A worker that reads before the other has written connects to a process that is dead. It
is refused at once; or, if by then something else listens there, waits for the timeout, which is two days
here (this has not been seen again).

So each start has a part of the store to itself (`pcgraph.training.accelerator.meeting_place`).
`test_workers_that_are_started_again_meet` lets one worker come late, and fails without that part each time.

Processes that ended without parting were aborted in 4 of 16 of these runs, when their work was done
(`pcgraph.training.accelerator.join_processes`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from pcgraph.cli import app
from tests.cli.conftest import SMALL

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
DEADLINE = 240
"""Seconds for everything, on a machine that has other things to do."""


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def workers(launcher: int) -> list[psutil.Process]:
    """The processes that evaluate."""
    children = psutil.Process(launcher).children(recursive=True)
    return [child for child in children if "evaluate" in child.cmdline()]


MEET = """
import atexit, os, signal, sys, time
import torch
from pcgraph.evaluation.processes import Processes

again, rank = os.environ["TORCHELASTIC_RESTART_COUNT"] != "0", os.environ["RANK"]
if again and rank == sys.argv[1]:
    time.sleep(2)

def parted():
    there = torch.distributed.is_initialized()
    os.write(1, b"still there\\n" if there else b"parted\\n")  # a line at once

atexit.register(parted)
processes = Processes.find(on_cpu=True)
assert processes.agree(processes.index) == 0
if not again:
    if rank == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)
print("met", flush=True)
"""


@pytest.mark.parametrize("late", ["0", "1"])
def test_workers_that_are_started_again_meet(tmp_path: Path, late: str) -> None:
    (tmp_path / "meet.py").write_text(MEET)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    command = [sys.executable, *launch, "meet.py", late]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("met") == 2
    assert done.stdout.count("parted\n") == 2


def test_a_killed_worker_costs_time_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    generator = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "pictures" / f"class{number % 10}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    given = ["-m", "pcgraph", "evaluate", "small.yaml", "--trust", "--data", "folder:pictures", "-q"]
    given += ["--attack", "pgd:0.1,0.2", "--iterations", "5", "--batch", "2", "--device", "cpu"]
    monkeypatch.chdir(tmp_path)
    alone = CliRunner().invoke(app, [*given[2:], "--out", "alone"])
    assert alone.exit_code == 0, alone.stderr

    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "2"]
    launcher = subprocess.Popen(
        [sys.executable, *launch, *given, "--out", "both", "--resume"],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + DEADLINE
        while not list(tmp_path.glob("both/parts/[0-9]*.safetensors")):
            assert launcher.poll() is None, launcher.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        first = workers(launcher.pid)
        assert len(first) == 2
        first[1].send_signal(signal.SIGKILL)
        written = {file: file.read_bytes() for file in tmp_path.glob("both/parts/[0-9]*.safetensors")}
        assert not (tmp_path / "both" / "evaluation.csv").exists()
        _, said = launcher.communicate(timeout=DEADLINE)
    finally:
        launcher.kill()
    assert launcher.returncode == 0, said
    assert written
    for name in ("evaluation.csv",):
        assert (tmp_path / "both" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    one, two = (load_file(tmp_path / name / "images.safetensors") for name in ("alone", "both"))
    assert set(one) == set(two)
    assert all(one[name].equal(two[name]) for name in one)
    assert one["pgd@2:0.1/correct"].shape == (3, 40)
    assert not (tmp_path / "both" / "parts").exists()
