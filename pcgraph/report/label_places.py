"""Where a label stands in a drawing, and how much room it takes. All lengths are in inches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from pcgraph.report.routes import Point

Line = np.ndarray[Any, Any]
"""Points along a stroke, (points, 2)."""


@dataclass
class Box:
    """A rectangle that labels keep away from."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """The area that two boxes share."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.top, other.top) - max(self.bottom, other.bottom)
        return wide * high if wide > 0 and high > 0 else 0.0

    def holds(self, points: Line) -> int:
        """How many points lie in it."""
        x, y = points[:, 0], points[:, 1]
        inside = (x > self.left) & (x < self.right) & (y > self.bottom) & (y < self.top)
        return int(inside.sum())


def best_place(
    width: float,
    height: float,
    lines: Iterable[tuple[Line, float]],
    others: Sequence[Line],
    taken: Sequence[Box],
) -> tuple[Point, Box]:
    """The place on a label's own lines where it hides least, and the box that it fills there.

    Args:
        width: Of the label.
        height: Of the label.
        lines: Where it may stand, each with what speaks against that line.
        others: Lines that it should not hide.
        taken: Boxes that it should not hide, which is worse.
    """
    hidden = np.concatenate([np.empty((0, 2)), *others])
    best: tuple[float, Point, Box] | None = None
    for line, against in lines:
        for index in range(4, len(line) - 4, 2):
            x, y = float(line[index, 0]), float(line[index, 1])
            box = Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            cost = sum(box.overlap(other) for other in taken) * 200
            cost += box.holds(hidden) * 0.6
            cost += abs(index / (len(line) - 1) - 0.5) * 2 + against
            if best is None or cost < best[0]:
                best = cost, (x, y), box
    assert best is not None
    return best[1], best[2]


@lru_cache(maxsize=1024)
def text_width(text: str, size: float, bold: bool = False) -> float:
    """Width of the widest line, in inches."""
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    lines = [line for line in text.splitlines() if line.strip()]
    return max((_reach(TextPath((0, 0), line, size=size, prop=font)) for line in lines), default=0.0) / 72


def _reach(outline: Path) -> float:
    """From the left to the right of an outline; glyphs have points wherever they reach furthest."""
    x = np.asarray(outline.vertices)[np.asarray(outline.codes) != Path.CLOSEPOLY, 0]
    return float(np.ptp(x)) if len(x) else 0.0


def sampled(path: Path, count: int = 61) -> Line:
    """Points along a path, evenly spread over its length."""
    curves: list[Any] = [curve for curve, _ in path.iter_bezier()]  # type: ignore[misc, has-type]
    dense = np.concatenate([[curve(t) for t in np.linspace(0, 1, 20)] for curve in curves])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(dense, axis=0).T))])
    wanted = np.linspace(0, along[-1], count)
    return np.stack([np.interp(wanted, along, dense[:, axis]) for axis in (0, 1)], axis=1)
