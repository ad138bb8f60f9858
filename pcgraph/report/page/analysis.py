"""Analyses on a page: how alike the states are, and the tables."""

from __future__ import annotations

from collections.abc import Sequence

from pcgraph.report.page.charts import PIXELS, svg
from pcgraph.report.page.parts import Section, Table
from pcgraph.report.page.reading import Row, RunFolder, read_table
from pcgraph.report.similarity_figure import KEYS, similarity_figure

SIMILARITY = "similarity.csv"
TABLES = {"cost": "Cost", "lesions": "Lesions", "gains": "Gradients of gains", "modes": "Leading modes"}
"""Tables that are shown, by the names of their files."""


def analysis(title: str, runs: Sequence[RunFolder]) -> Section:
    """Analyses: a map of the similarity for each run that has it, and the shorter tables."""
    plots, tables = [], []
    for run in runs:
        named = len(runs) > 1
        figure = similarity_figure(_similarity(run))
        if figure is not None:
            plots.append(
                (run.label if named else "", svg(figure, f"Similarity of states: {run.label}", scale=PIXELS))
            )
        for name, heading in TABLES.items():
            rows = read_table(run.path / f"{name}.csv", ()) if (run.path / f"{name}.csv").is_file() else []
            if rows:
                cells = [[str(value) for value in row.values()] for row in rows]
                shown = f"{heading}: {run.label}" if named else heading
                tables.append(Table(shown, list(rows[0]), cells, folded=len(cells) > 25))
    return Section(title, tables=tables, plots=plots)


def _similarity(run: RunFolder) -> Sequence[Row]:
    file = run.path / SIMILARITY
    if not file.is_file():
        return []
    return read_table(file, (*KEYS, *(f"other_{key}" for key in KEYS), "cka"))
