"""What a person sees of a simulation: figures, tables, and what one should know about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcgraph.cli.simulation import Found
    from pcgraph.network import PCNetwork

SHOWN = 4
"""Images up to which each has a table of its own."""


def run_figures(title: str, found: Found) -> dict[str, Any]:
    """The figure of a run; none where matplotlib is not installed."""
    try:
        from pcgraph.report.figures import run_figure
    except ImportError:
        return {}
    return {"figure": run_figure(title, found.terms, found.labels, found.trajectories)}


def draw(
    folder: Path, make: Callable[[], dict[str, Any]], suffixes: Sequence[str] = (".png", ".svg")
) -> dict[str, Any]:
    """Make the figures of a run whose numbers are in ``folder``, and write them there with these suffixes.

    Raises:
        InputError: They could not be made; the numbers are kept.
    """
    from pcgraph.runs.figures import numbers_kept, save_figures

    with numbers_kept(folder, "the figures"):
        figures = make()
        save_figures(folder, figures, suffixes)
    return figures


def tables(found: Found) -> list[Any]:
    """The tables that a person reads."""
    from pcgraph.report.tables import answer_table, class_table, energy_tables

    shown: list[Any] = []
    if found.labels and len(found.trajectories) > SHOWN:
        shown.append(answer_table(found.trajectories))
    elif found.labels:
        shown += [class_table(one, found.labels) for one in found.trajectories]
    if found.terms:
        shown += energy_tables(found.terms, found.trajectories)
    return shown


def remarks(network: PCNetwork, figures: dict[str, Any]) -> list[str]:
    """What one should know about the result."""
    said = []
    if len(network.predictors) and not network.feedback_trained:
        what = "feedback" if network.drive is not None else "edges"
        said.append(
            f"The weights of the {what} are random, not trained: the dynamics run, but mean nothing yet."
        )
    backbone = network.spec.backbone
    if backbone is not None and backbone.weights is None:
        said.append("The backbone's weights are random: the spec names none.")
    if not figures:
        said.append("No figure: matplotlib is not installed (pip install 'pcgraph[plot]').")
    return said


def as_data(found: Found) -> dict[str, Any]:
    """The tables as plain values."""
    from pcgraph.report.summary import mean_energy

    energy = mean_energy(found.trajectories)
    classes = {
        one.image: [
            [
                {"class": found.labels[index], "probability": probability}
                for index, probability in one.best(step)
            ]
            for step in range(one.steps + 1)
        ]
        for one in found.trajectories
        if one.classes
    }
    return {"energy": dict(zip(found.terms, energy.tolist(), strict=True)), "classes": classes}
