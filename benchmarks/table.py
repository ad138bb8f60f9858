"""What benchmarks report: groups of cases, each group one table, for a screen, a page or a program."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
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


def apart(expected: Tensor, got: Tensor) -> float:
    """How far two results are apart, relative to the largest number."""
    return float((expected.double() - got.double()).abs().max() / expected.double().abs().max())


def check_agreement(case: str, expected: Tensor, got: Tensor, tolerance: float = TOLERANCE) -> float:
    """How far two results are apart; ends the program if that is too far."""
    difference = apart(expected, got)
    if not difference <= tolerance:
        sys.exit(f"{case}: the results differ by {difference:.1e} of their size; nothing is compared")
    return difference


def compared(
    case: str,
    baseline: Callable[[], Tensor],
    ours: Callable[[], Tensor],
    steps: int,
    repeats: int,
    *,
    tolerance: float = TOLERANCE,
    warm: int = 0,
    wait: Callable[[], None] = lambda: None,
) -> Record:
    """Time the two in turn after one warm-up of each, which must agree; seconds a step.

    Args:
        case: What it is called.
        baseline: One of the two.
        ours: The other.
        steps: Steps that each makes.
        repeats: Pairs of measurements.
        tolerance: How far their results may be apart.
        warm: Further warm-ups of each.
        wait: Returns when all that was begun has ended.
    """

    def seconds(work: Callable[[], Tensor]) -> float:
        wait()
        begin = time.perf_counter()
        results[:] = [work()]
        wait()
        return time.perf_counter() - begin

    expected, results = baseline(), [torch.empty(0)]
    first = seconds(ours)
    difference = check_agreement(case, expected, results[0], tolerance)
    for _ in range(warm):
        baseline()
        ours()
    pairs = [(seconds(baseline) / steps, seconds(ours) / steps) for _ in range(repeats)]
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


def filled(text: str, key: str, table: str) -> str:
    """A page with a table between its marks, ``<!-- bench: KEY -->`` and ``<!-- end -->``."""
    before, mark, after = text.partition(f"<!-- bench: {key} -->\n")
    return f"{before}{mark}\n{table}\n\n{after[after.index('<!-- end -->') :]}"
