"""What a command prints: results, remarks and progress."""

from __future__ import annotations

import io
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

from pcgraph.display.progress import progress_bar
from pcgraph.display.safe import json_text, printable

if TYPE_CHECKING:
    from rich.console import RenderableType

PIPE_WIDTH = 160
"""Columns of a table that goes into a file or another program, where there is no window to fit."""


class Screen:
    """Where a command prints to.

    Args:
        as_json: Print nothing on standard output but one JSON value, the result.
        quiet: Print no remarks and no progress.
    """

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet

    def result(self, data: Any, *shown: RenderableType) -> None:
        """Print what the command was asked for: ``data`` with ``--json``, else what is ``shown``."""
        if self.as_json:
            print(json_text(_plain(data), sys.stdout.encoding))
            return
        self._print(*shown)

    def remark(self, *shown: RenderableType) -> None:
        """Print what a person likes to know besides the result."""
        if not (self.as_json or self.quiet):
            self._print(*shown)

    def aside(self, text: str) -> None:
        """Print what a person likes to know in the course of long work, on standard error."""
        if not (self.as_json or self.quiet):
            print(printable(text), file=sys.stderr, flush=True)

    @contextmanager
    def working(self, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show a progress bar on standard error if the block takes longer than a second.

        What libraries and foreign code print meanwhile goes there too, or nowhere with ``--json``.

        Args:
            what: What is being done.
            total: How many things there are to do, where that is known.

        Yields:
            A function that is told how many more of them are done.
        """
        with (
            redirect_stdout(io.StringIO() if self.as_json else sys.stderr),
            progress_bar(what, total, shown=not (self.as_json or self.quiet)) as advance,
        ):
            yield advance

    def _print(self, *shown: RenderableType) -> None:
        from pcgraph.display.console import SafeConsole

        fits = sys.stdout.isatty() or "COLUMNS" in os.environ
        console = SafeConsole(width=None if fits else PIPE_WIDTH, markup=False, highlight=False, emoji=False)
        for item in shown:
            console.print(item, soft_wrap=isinstance(item, str))


def _plain(data: Any) -> Any:
    """The same with null for infinite numbers and NaN, which JSON does not have."""
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
