"""What the dimensions of a state are: channels, and places that have neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

LayoutName = Literal["channels_first", "channels_last", "tokens"]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """How a state lies in its tensor: a grid of places, and at each place a vector of channels.

    Attributes:
        parts: The shape that shows the channels and the axes of the grid, each as one dimension: that of the
            state itself for a map, (height, width, channels) for tokens of shape (height * width, channels).
            Class tokens are not in it.
        channels: Which of the parts are the channels, or the features of a vector; None where the state has
            one channel and no dimension for it.
        before: How many class tokens come before the places.
        after: How many come after them.
        ordered: Whether neighbours in the grid have to do with each other; else the places are mere rows.
        rows: Where they are rows: states of the same number have the same ones, row by row. None where a
            person says that they are rows, not an operation.
        axes: Where the places are in another order than row by row (block after block, columns before rows):
            of each axis of the grid the parts that it is made of, the coarsest first. None: each part but
            the channels is an axis.
    """

    parts: Shape
    channels: int | None
    before: int = 0
    after: int = 0
    ordered: bool = True
    rows: int | None = None
    axes: tuple[tuple[int, ...], ...] | None = None

    @property
    def grid(self) -> Shape:
        """Sizes of the grid's axes: (time,), (height, width), (depth, height, width); () for a vector."""
        return tuple(math.prod(self.parts[part] for part in axis) for axis in self.parts_of_axes)

    @property
    def parts_of_axes(self) -> tuple[tuple[int, ...], ...]:
        """Of each axis of the grid, the parts that it is made of, the coarsest first."""
        each = ((part,) for part in range(len(self.parts)) if part != self.channels)
        return tuple(each) if self.axes is None else self.axes

    @property
    def width(self) -> int:
        """How many channels, or features."""
        return 1 if self.channels is None else self.parts[self.channels]


def convention(shape: Shape) -> Layout | None:
    """The layout of a state of which nothing is said: a vector, or a map or a volume with channels first.

    Two dimensions may be (channels, time), (time, channels) or (tokens, features), so there is none for them.
    """
    return Layout(shape, 0) if len(shape) in (1, 3, 4) else None


def named(name: LayoutName, shape: Shape) -> Layout:
    """The layout that a spec names."""
    if name == "channels_first":
        return Layout(shape, 0)
    return Layout(shape, len(shape) - 1, ordered=name != "tokens")
