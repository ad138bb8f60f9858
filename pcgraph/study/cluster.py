"""Cells on a Dask cluster: the queue, lost workers and the way of results are Dask's business."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pcgraph.errors import Fault, InputError
from pcgraph.study.cells import FORMAT, Cell
from pcgraph.study.store import CellStore
from pcgraph.study.work import Files, Worker

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 60.0
"""Seconds in which a scheduler may be away before we give up."""
KILLS = 20
"""Workers that one cell may lose before it is taken to be the cell's fault."""
_WORKERS = threading.local()


def run_on_cluster(
    cells: Sequence[Cell],
    store: CellStore,
    address: str,
    *,
    trust: bool = False,
    patience: float = PATIENCE,
    advance: Callable[[int], None] = lambda done: None,
) -> None:
    """Compute the cells that are not there yet on the workers of a Dask scheduler.

    Workers need pcgraph of this version and the images at the same paths; results come back through the
    scheduler, so they need no common file system. A worker that dies is replaced by another; if the scheduler
    dies, the work goes on when it is back.

    Args:
        cells: Each after those that it needs.
        store: Where results are, and go as they come.
        address: Of the scheduler (``tcp://host:8786``), or a scheduler file (``scheduler.json``).
        trust: Whether ``python:`` references may be imported, by the workers too.
        patience: Seconds to wait for a scheduler that is away.
        advance: Is told of every cell that is done.

    Raises:
        InputError: There is no scheduler, dask is not installed, or a worker has another version.
        PCGraphError: A cell cannot be computed; what was done is kept.
    """
    done = store.done(list(cells))
    todo = {cell.key: cell for cell in cells if cell.key not in done}
    advance(len(cells) - len(todo))
    kills: dict[str, int] = {}
    away_since: float | None = None
    while todo:
        before, begun = len(todo), time.monotonic()
        try:
            with _client(address, patience) as client:
                _gather(client, todo, store, trust, kills, advance)
        except _lost() as error:
            if len(todo) < before:
                away_since = None
            away_since = away_since or begun
            if time.monotonic() - away_since > patience:
                message = f"no answer from the scheduler in {patience:g} seconds: {error}"
                hint = "What was done is kept: give the same command when it is back."
                raise InputError(Fault(message, hint=hint, where=address)) from None
            time.sleep(1)


def _client(address: str, patience: float) -> Client:
    try:
        from distributed import Client
    except ImportError:
        hint = "pip install 'pcgraph[study]'"
        raise InputError(Fault("a cluster needs dask, which is not installed", hint=hint)) from None
    file = Path(address)
    given = {"scheduler_file": address} if file.suffix == ".json" else {"address": address}
    if "scheduler_file" in given and not file.is_file():
        hint = "Start 'dask scheduler --scheduler-file FILE' first."
        raise InputError(Fault("there is no such scheduler file", hint=hint, where=address))
    try:
        return Client(**given, timeout=patience)
    except ValueError as error:
        hint = "For example tcp://127.0.0.1:8786, or scheduler.json."
        raise InputError(Fault(f"is no address of a scheduler: {error}", hint=hint, where=address)) from None


def _lost() -> tuple[type[BaseException], ...]:
    """What is raised where a scheduler went away, or came back without knowing us."""
    from concurrent.futures import CancelledError

    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError

    return (OSError, TimeoutError, CancelledError, FutureCancelledError, CommClosedError)


def _gather(
    client: Client,
    todo: dict[str, Cell],
    store: CellStore,
    trust: bool,
    kills: dict[str, int],
    advance: Callable[[int], None],
) -> None:
    """Submit all cells, and keep the results as they come."""
    from distributed import KilledWorker, as_completed

    futures: dict[str, Any] = {}

    def submit(cell: Cell) -> Any:
        needs = [futures[one.key] if one.key in futures else store.read(one.key) for one in cell.needs]
        name = f"pcgraph-{cell.kind}-{cell.key}-{kills.get(cell.key, 0)}"
        about = (cell.kind, dict(cell.content), trust, FORMAT, _version())
        futures[cell.key] = client.submit(_work, *about, *needs, key=name, pure=True)
        return futures[cell.key]

    cells = {submit(cell).key: cell for cell in todo.values()}
    waiting = as_completed(list(futures.values()))
    for future in waiting:
        cell = cells[future.key]
        try:
            files: Files = future.result()
        except KilledWorker:
            kills[cell.key] = kills.get(cell.key, 0) + 1
            if kills[cell.key] > KILLS:
                message = f"{KILLS} workers died on one cell ({cell.kind}, {cell.key})"
                hint = "It may need more memory than a worker has."
                raise InputError(Fault(message, hint=hint)) from None
            again = submit(cell)
            cells[again.key] = cell
            waiting.add(again)
            continue
        store.write(cell, files)
        del todo[cell.key]
        advance(1)


def _work(kind: str, content: dict[str, Any], trust: bool, format: int, version: str, *needs: Files) -> Files:
    """On a worker: one cell."""
    if (format, version) != (FORMAT, _version()):
        message = f"a worker has {_version()}, and {version} was asked for"
        raise InputError(Fault(message, hint="Install the same version on all workers."))
    if getattr(_WORKERS, "trust", None) is not trust:
        _WORKERS.trust, _WORKERS.worker = trust, Worker(trust)
    files: Files = _WORKERS.worker(kind, content, list(needs))
    return files


def _version() -> str:
    from pcgraph import __version__

    return f"pcgraph {__version__} with torch {torch.__version__}"
