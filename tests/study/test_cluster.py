"""Studies on a Dask cluster of real processes: a scheduler and workers that are killed on the way."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import pcgraph as pcg
from pcgraph.study import CellStore, run_cells
from pcgraph.study.cluster import run_on_cluster
from pcgraph.study.results import Results, study_csv
from pcgraph.study.trials import Trials
from tests.study.files import planned, study, written

distributed = pytest.importorskip("distributed")

QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "DASK_DISTRIBUTED__WORKER__DAEMON": "True"}


class Cluster:
    """A scheduler on a port of its own, and workers, each with its nanny."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def begin(self, workers: int) -> None:
        where = ["--host", "127.0.0.1", "--port", str(self.port)]
        self.scheduler = self._start("scheduler", *where, "--no-dashboard")
        self.workers = [
            self._start("worker", self.address, "--nthreads", "1", "--no-dashboard") for _ in range(workers)
        ]

    def kill_worker(self, draw: random.Random) -> None:
        """SIGKILL to the process that computes; its nanny starts another."""
        nanny = draw.choice(self.workers)
        children = Path(f"/proc/{nanny.pid}/task/{nanny.pid}/children").read_text().split()
        for child in children:
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(int(child), signal.SIGKILL)

    def end(self) -> None:
        for process in [*self.workers, *([self.scheduler] if self.scheduler else [])]:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.workers, self.scheduler = [], None

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", *words]
        log = (self.folder / f"{words[0]}.log").open("ab")
        return subprocess.Popen(
            command, cwd=self.folder, env=QUIET, stdout=log, stderr=log, start_new_session=True
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        yield made
    finally:
        made.end()


def expected(folder: Path, **changes: Any) -> str:
    plan = planned(folder, **changes)
    store = CellStore(folder / "here")
    run_cells(plan.cells, store)
    return study_csv(Results(plan, store))


@pytest.mark.heavy
def test_no_scheduler_is_one_sentence(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, seeds=1), CellStore(tmp_path / "cells")
    with pytest.raises(pcg.InputError, match=r"no answer from the scheduler in 1 seconds"):
        run_on_cluster(plan.cells, store, "tcp://127.0.0.1:9", patience=1)
    with pytest.raises(pcg.InputError, match="there is no such scheduler file"):
        run_on_cluster(plan.cells, store, str(tmp_path / "no.json"))


@pytest.mark.heavy
def test_a_cluster_gives_the_same_numbers(tmp_path: Path, cluster: Cluster) -> None:
    cluster.begin(workers=3)
    plan, store = planned(tmp_path), CellStore(tmp_path / "there")
    run_on_cluster(plan.cells, store, cluster.address)
    assert study_csv(Results(plan, store)) == expected(tmp_path)


@pytest.mark.slow
def test_a_search_on_a_cluster_finds_the_same(tmp_path: Path, cluster: Cluster) -> None:
    cluster.begin(workers=2)
    search = {"trials": 4, "batch": 2, "edges": "all", "each": {"delay": [1, 2]}, "limit": 25}
    found = []
    for name, compute in (
        ("there", partial(run_on_cluster, address=cluster.address)),
        ("here", run_cells),
    ):
        trials, store = Trials(study(tmp_path, seeds=1, search=search)), CellStore(tmp_path / name)
        trials.run(partial(compute, store=store), store, lambda done: None)
        found.append(trials.csv())
    assert found[0] == found[1]


@pytest.mark.slow
def test_whoever_dies_the_study_ends_with_the_same_numbers(tmp_path: Path, cluster: Cluster) -> None:
    """Ten workers are killed, the client twice, the scheduler once with all its workers."""
    draw = random.Random(0)
    more = {"seeds": 6, "lesions": {"of": "dense", "each": "edge"}}
    whole = expected(tmp_path, **more)
    file = written(tmp_path, **more)
    command = [sys.executable, "-m", "pcgraph", "study", str(file), "--out", str(tmp_path / "out"), "-q"]
    command += ["--on", cluster.address]
    cluster.begin(workers=3)
    client = subprocess.Popen(command, env=QUIET)
    for moment in range(13):
        time.sleep(draw.uniform(2, 8))
        if moment in (4, 9):
            client.kill()
            client.wait()
            client = subprocess.Popen(command, env=QUIET)
        elif moment == 7:
            cluster.end()
            cluster.begin(workers=3)
        else:
            cluster.kill_worker(draw)
    assert client.wait(timeout=900) == 0
    assert (tmp_path / "out" / "study.csv").read_text() == whole
    plan = planned(tmp_path, **more)
    kept = {path.name for path in (tmp_path / "out" / "cells").iterdir() if not path.name.startswith(".")}
    assert kept == {cell.key for cell in plan.cells}
