"""The answers of a query, as a table and as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from pcgraph.display.safe import figure_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#1d2733"
HIDDEN = np.array([0.36, 0.47, 0.66], dtype=np.float32)
"""The colour of what a network is not shown."""
MOST_COLUMNS = 12
Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Best:
    """The best class of a node.

    Attributes:
        label: Its number.
        value: Its value.
        right: The class of the item, where it is known.
    """

    label: int
    value: float
    right: int | None


@dataclass(frozen=True)
class Change:
    """A number before inference and after it."""

    start: float
    end: float


@dataclass(frozen=True)
class ItemAnswer:
    """What was read for one item.

    Attributes:
        name: The item's name.
        classes: By node of classes.
        error: By image that is known: the mean squared error where it was not held.
        energy: The total energy.
    """

    name: str
    classes: Mapping[str, Best]
    error: Mapping[str, Change]
    energy: Change


def answers_table(title: str, answers: Sequence[ItemAnswer], most: int = 20) -> Table:
    """One line an item; of many items the first ``most``."""
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    table.add_column("item")
    for node in answers[0].classes:
        table.add_column(Text(node))
    for node in answers[0].error:
        table.add_column(Text(f"{node}: squared error"), justify="right")
    table.add_column("energy", justify="right")
    for one in answers[:most]:
        cells = []
        for best in one.classes.values():
            wrong = best.right is not None and best.right != best.label
            text = f"{best.label} ({best.value:.2f})" + (f", not {best.right}" if wrong else "")
            cells.append(Text(text, "red" if wrong else ""))
        cells += [Text(f"{error.start:.4f} → {error.end:.4f}") for error in one.error.values()]
        table.add_row(Text(one.name), *cells, f"{one.energy.start:.4g} → {one.energy.end:.4g}")
    if len(answers) > most:
        table.caption = f"and {len(answers) - most} more"
    return table


def hidden(picture: Picture, shown: NDArray[np.bool_]) -> Picture:
    """A grey or RGB picture as RGB, with a colour of its own where it is not shown."""
    colours = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    return np.where(shown[..., None], colours, HIDDEN).astype(np.float32)


def answers_figure(title: str, rows: Mapping[str, Sequence[Picture]], heads: Sequence[str]) -> Figure:
    """A row for each kind of picture, a column for each of the first items.

    Args:
        title: The heading.
        rows: By name of the row: one picture an item, (height, width) grey or (height, width, 3), 0 to 1.
        heads: What stands above each item.
    """
    from matplotlib.figure import Figure

    count = min(len(heads), MOST_COLUMNS)
    figure = Figure(
        figsize=(1.1 + 0.95 * count, 0.75 + 0.98 * len(rows)), facecolor="white", layout="constrained"
    )
    figure.suptitle(figure_text(title), x=0.01, ha="left", weight="bold", color=INK, size=10)
    axes = figure.subplots(len(rows), count, squeeze=False)
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(figure_text(name), size=8, color=INK, rotation=0, ha="right", va="center")
        for axis, picture in zip(line, pictures, strict=False):
            axis.imshow(np.clip(picture, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    for axis, head in zip(axes[0], heads, strict=False):
        axis.set_title(figure_text(head), size=8, color=INK)
    return figure
