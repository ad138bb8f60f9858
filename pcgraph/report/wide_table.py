"""A table for the terminal whose headings can be read at any width."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.table import Table

LONGEST = 24
"""Characters of a word that is not folded."""
FRAME = 3
"""Characters around each column: a line, and a space to either side."""


@dataclass(frozen=True)
class WideTable:
    """Columns that do not fit side by side go on below, each part with the first column.

    Headings wrap between words; numbers never do.

    Attributes:
        title: Above it.
        head: Names of the columns.
        lines: A line each.
        caption: Below all of it.
        groups: Columns that begin a group, which stays together where there is room.
        words: Columns of words, which stand on the left and wrap.
    """

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    caption: str | None = None
    groups: Sequence[int] = ()
    words: Collection[int] = (0,)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        """The parts, one below the other."""
        parts = list(self._parts(options.max_width))
        for place, columns in enumerate(parts):
            title = f"{self.title} (continued)" if place else self.title
            table = Table(title=title, caption=self.caption if place == len(parts) - 1 else None)
            for column, width in zip(columns, self._widths(columns, options.max_width), strict=True):
                side = "left" if column in self.words else "right"
                table.add_column(self.head[column], justify=side, width=width, overflow="fold")  # type: ignore[arg-type]
            for line in self.lines:
                table.add_row(*(line[column] for column in columns))
            yield table

    def _parts(self, room: int) -> Iterator[list[int]]:
        """The columns of each part."""
        part = [0]
        for first, end in pairwise([1, *self.groups, len(self.head)]):
            for column in range(first, end):
                ahead = range(column, end) if column == first else [column]
                if len(part) > 1 and self._needs([*part, *ahead]) > room:
                    yield part
                    part = [0]
                part.append(column)
        yield part

    def _needs(self, columns: Sequence[int]) -> int:
        return 1 + sum(self._least(column) + FRAME for column in columns)

    def _widths(self, columns: Sequence[int], room: int) -> list[int]:
        """What each column needs, and more for those that would wrap, as far as there is room."""
        spare, widths = room - self._needs(columns), []
        for column in columns:
            least, most = self._least(column), max(map(cell_len, self._cells(column)))
            more = min(most - least, spare)
            spare -= more
            widths.append(max(least + more, 1))
        return widths

    def _least(self, column: int) -> int:
        """The width in which no word of the heading, and no number, is cut."""
        name, *cells = self._cells(column)
        wraps = column in self.words
        pieces = [*name.split(), *(piece for cell in cells for piece in (cell.split() if wraps else [cell]))]
        longest = max(map(cell_len, pieces), default=1)
        return min(longest, LONGEST) if wraps else longest

    def _cells(self, column: int) -> list[str]:
        return [self.head[column], *(line[column] for line in self.lines)]
