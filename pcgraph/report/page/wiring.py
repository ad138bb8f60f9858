"""The wiring of the networks that were run, drawn once for each that differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pcgraph.errors import PCGraphError
from pcgraph.report.page.charts import svg
from pcgraph.report.page.parts import Section
from pcgraph.report.page.reading import RunFolder

if TYPE_CHECKING:
    from pcgraph.network import PCNetwork

SPEC = "spec.yaml"


def wirings(runs: Sequence[RunFolder], trust: bool, networks: Mapping[str, PCNetwork]) -> Section:
    """Draw the networks.

    Args:
        runs: The runs.
        trust: Whether ``python:`` objects in their specs may be imported.
        networks: Networks that are built already, by the run's label.
    """
    from pcgraph.building.network import build
    from pcgraph.report.wiring import wiring_figure

    notes = []
    by_drawing: dict[str, list[str]] = {}
    for run in runs:
        file = run.path / SPEC
        if run.label not in networks and not file.is_file():
            notes.append(f"{run.label}: no wiring is drawn, for the folder holds no {SPEC}.")
            continue
        try:
            network = networks.get(run.label) or build(file, trust=trust, weights=False)
        except PCGraphError as error:
            notes.append(f"{run.label}: no wiring is drawn. {error.faults[0]}")
            continue
        drawing = svg(wiring_figure(network), f"Wiring of {network.spec.name}")
        by_drawing.setdefault(drawing, []).append(run.label)
    named = len(runs) > 1
    drawings = [(", ".join(labels) if named else "", drawing) for drawing, labels in by_drawing.items()]
    return Section("Wiring", drawings=drawings, notes=notes)
