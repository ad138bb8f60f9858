"""What benchmarks report: groups of cases, each group one table, for a screen, a page or a program."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from torch import Tensor

Record = dict[str, Any]
"""A row: its ``case``, and numbers by the keys of the group's columns; what it lacks stays empty."""
Measure = Callable[[int, int], Record]
"""From steps and repeats to a row."""
TOLERANCE = 1e-4  # relative to the largest number of a result


@dataclass(frozen=True)
class Group:
    """Cases that are shown in one table.

    Attributes:
        title: What the numbers are.
        columns: Heading and format by key.
        cases: By name.
    """

    title: str
    columns: Mapping[str, tuple[str, str]]
    cases: Mapping[str, Measure]

    def lines(self, records: Sequence[Record]) -> list[list[str]]:
        """The cells of each row."""
        return [
            [record["case"], *(_shown(record.get(key), form) for key, (_, form) in self.columns.items())]
            for record in records
        ]

    def headings(self) -> list[str]:
        """The first line."""
        return ["case", *(heading for heading, _ in self.columns.values())]

    def table(self, records: Sequence[Record]) -> Table:
        """The table for a screen."""
        table = Table(title=self.title, title_justify="left")
        for place, heading in enumerate(self.headings()):
            table.add_column(heading, justify="right" if place else "left")
        for line in self.lines(records):
            table.add_row(*line)
        return table

    def markdown(self, records: Sequence[Record]) -> str:
        """The table for a page."""
        rule = ["---", *["---:"] * len(self.columns)]
        lines = [self.headings(), rule, *self.lines(records)]
        return f"{self.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _shown(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


RATIOS = {
    "ratio": ("ratio", ".2f"),
    "lowest": ("lowest", ".2f"),
    "highest": ("highest", ".2f"),
    "difference": ("difference", ".0e"),
}


def check_agreement(case: str, expected: Tensor, got: Tensor) -> float:
    """How far two results are apart, relative to the largest number; ends the program if that is too far."""
    difference = float((expected - got).abs().max() / expected.abs().max())
    if not difference <= TOLERANCE:
        sys.exit(f"{case}: the results differ by {difference:.1e} of their size; nothing is compared")
    return difference


def compared(
    case: str, baseline: Callable[[], Tensor], ours: Callable[[], Tensor], steps: int, repeats: int
) -> Record:
    """Time the two in turn after one warm-up of each, which must agree; seconds a step."""
    expected = baseline()
    begin = time.perf_counter()
    got = ours()
    first = time.perf_counter() - begin
    difference = check_agreement(case, expected, got)
    pairs = []
    for _ in range(repeats):
        begin = time.perf_counter()
        baseline()
        middle = time.perf_counter()
        ours()
        pairs.append(((middle - begin) / steps, (time.perf_counter() - middle) / steps))
    ratios = [b / a for a, b in pairs]
    return {
        "case": case,
        "baseline": statistics.median(a for a, _ in pairs),
        "pcgraph": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "difference": difference,
        "first": first,
    }
