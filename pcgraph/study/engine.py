"""Cells are computed: here, in processes of this machine, or wherever an executor takes them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from typing import Any

from pcgraph.errors import Fault, InputError, PCGraphError
from pcgraph.study.cells import Cell
from pcgraph.study.store import CellStore
from pcgraph.study.work import Files, Worker

_WORKER: Worker | None = None
"""Of a process of the pool; what its cells have in common is made once."""


class Engine:
    """Computes cells here or in processes of this machine, which stay until all is done.

    Args:
        store: Where results are, and go as they come.
        workers: Processes; 1 computes in this one.
        trust: Whether ``python:`` references may be imported.
    """

    def __init__(self, store: CellStore, *, workers: int = 1, trust: bool = False) -> None:
        self.store, self.workers, self.trust = store, workers, trust
        self._here = Worker(trust)
        self._pool: Executor | None = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def compute(self, cells: Sequence[Cell], advance: Callable[[int], None] = lambda done: None) -> None:
        """Compute the cells that are not there yet; the results do not depend on where and in which order.

        Args:
            cells: Each after those that it needs.
            advance: Is told of every cell that is done.

        Raises:
            PCGraphError: A cell cannot be computed; what was done is kept.
            InputError: A process of the pool was killed.
        """
        done = self.store.done(list(cells))
        todo = [cell for cell in cells if cell.key not in done]
        advance(len(cells) - len(todo))
        if self.workers == 1 or len(todo) < 2:
            self._compute_here(todo, advance)
        else:
            _share(todo, self.store, self._processes(), self.workers, advance)

    def _compute_here(self, todo: Sequence[Cell], advance: Callable[[int], None]) -> None:
        for cell in todo:
            needs = [self.store.read(one.key) for one in cell.needs]
            self.store.write(cell, self._here(cell.kind, cell.content, needs))
            advance(1)

    def _processes(self) -> Executor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self.workers, context, initializer=_begin, initargs=(self.trust,)
            )
        return self._pool


def run_cells(
    cells: Sequence[Cell],
    store: CellStore,
    *,
    workers: int = 1,
    trust: bool = False,
    advance: Callable[[int], None] = lambda done: None,
) -> None:
    """Compute the cells that are not there yet; see `Engine`."""
    with Engine(store, workers=workers, trust=trust) as engine:
        engine.compute(cells, advance)


def _share(
    todo: list[Cell], store: CellStore, pool: Executor, workers: int, advance: Callable[[int], None]
) -> None:
    """Give the cells to a pool, each when what it needs is there; no more at a time than it can take."""
    missing = {cell.key for cell in todo}
    waiting = list(todo)
    running: dict[Future[Files], Cell] = {}
    while waiting or running:
        while len(running) < 2 * workers:
            ready = next((c for c in waiting if missing.isdisjoint(one.key for one in c.needs)), None)
            if ready is None:
                break
            waiting.remove(ready)
            needs = [store.read(one.key) for one in ready.needs]
            running[pool.submit(_work, ready.kind, dict(ready.content), needs)] = ready
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            cell = running.pop(future)
            store.write(cell, _result(future))
            missing.discard(cell.key)
            advance(1)


def _result(future: Future[Files]) -> Files:
    try:
        return future.result()
    except PCGraphError:
        raise
    except Exception as error:
        from concurrent.futures.process import BrokenProcessPool

        if isinstance(error, BrokenProcessPool):
            hint = "What was done is kept: give the same command again."
            raise InputError(Fault("a process that computed a cell was killed", hint=hint)) from None
        raise


def _begin(trust: bool) -> None:
    global _WORKER
    os.environ["OMP_NUM_THREADS"] = "1"
    _WORKER = Worker(trust)


def _work(kind: str, content: dict[str, Any], needs: list[Files]) -> Files:
    assert _WORKER is not None
    return _WORKER(kind, content, needs)
