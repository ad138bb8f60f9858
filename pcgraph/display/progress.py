"""A progress bar on standard error, for whatever takes long."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pcgraph.display.safe import printable

SWITCH = "PCGRAPH_PROGRESS"
"""The environment variable that turns all bars off, with ``0``."""
PATIENCE = 1.0
"""Seconds of silence before a bar appears."""


@contextmanager
def progress_bar(
    what: str, total: int | None = None, *, shown: bool = True
) -> Iterator[Callable[[int], None]]:
    """Show a bar if the block takes longer than a second and standard error is a terminal.

    Args:
        what: What is being done.
        total: How many things there are to do, where that is known.
        shown: Whether the caller wants a bar; ``PCGRAPH_PROGRESS=0`` in the environment forbids it.

    Yields:
        A function that is told how many more of them are done.
    """
    if not shown or os.environ.get(SWITCH) == "0" or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    progress = Progress(console=Console(stderr=True), transient=True)
    task = progress.add_task(escape(printable(what)), total=total)
    timer = threading.Timer(PATIENCE, progress.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda done: progress.advance(task, done)
    finally:
        timer.cancel()
        timer.join()
        progress.stop()
