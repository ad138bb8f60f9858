"""What a run did, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from pcgraph.display.safe import one_line
from pcgraph.report.summary import first_class, mean_energy
from pcgraph.report.trajectory import Trajectory

BEST = 3
"""Classes of each step that are shown."""
COLUMNS = 6
"""Energies side by side; the others follow below."""


def class_table(trajectory: Trajectory, labels: Sequence[str]) -> Table:
    """The best classes of one image at each step; what changed from the step before is bold."""
    table = _table(f"{one_line(trajectory.image)}: classes")
    for place in ("best", "second", "third")[:BEST]:
        table.add_column(place)
    before: tuple[int, ...] = ()
    for step in range(trajectory.steps + 1):
        best = trajectory.best(step, BEST)
        cells = []
        for rank, (index, probability) in enumerate(best):
            changed = bool(before) and before[rank] != index
            cells.append(Text(f"{labels[index]} {probability:.3f}", style="bold" if changed else ""))
        table.add_row(str(step), *cells)
        before = tuple(index for index, _ in best)
    return table


def answer_table(trajectories: Sequence[Trajectory]) -> Table:
    """How the answers of step 0 fare in many images."""
    table = _table(f"{len(trajectories)} images: the answer of step 0")
    table.add_column("mean probability", justify="right")
    table.add_column("still the best class", justify="right")
    for step, (probability, kept) in enumerate(zip(*first_class(trajectories), strict=True)):
        table.add_row(str(step), f"{probability:.3f}", f"{kept:.1%}")
    return table


def energy_tables(terms: Sequence[str], trajectories: Sequence[Trajectory], name: str = "") -> list[Table]:
    """The energy of every edge at each step, averaged over the images; ``name`` says of what."""
    energy = mean_energy(trajectories)
    tables = []
    for start in range(0, len(terms), COLUMNS):
        shown = list(terms)[start : start + COLUMNS]
        mean = " (mean of the images)" if len(trajectories) > 1 else ""
        of_what = f"{name}: " if name else ""
        table = _table(f"{of_what}energy of each edge{mean}" if start == 0 else "")
        for name in shown:
            table.add_column(Text(name), justify="right")
        for step in range(energy.shape[1]):
            table.add_row(str(step), *[f"{energy[start + i, step]:.4g}" for i in range(len(shown))])
        tables.append(table)
    return tables


def _table(title: str) -> Table:
    table = Table(title=Text(title) if title else None, title_justify="left", title_style="bold")
    table.add_column("step", justify="right")
    return table
