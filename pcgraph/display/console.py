"""Rich's console, through which nothing but its own styles steers the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from pcgraph.display.safe import printable


class SafeConsole(Console):
    """A console that writes out what a text holds of escape sequences and control characters."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is shown, in pieces of one style."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)
