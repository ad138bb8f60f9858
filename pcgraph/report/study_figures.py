"""The figures of a study, by name."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from pcgraph.report.study import ArmRow
from pcgraph.report.study_forest import forest_figure
from pcgraph.report.study_lesions import lesion_figures
from pcgraph.report.study_maps import cost_figure, stability_figure
from pcgraph.report.study_search import search_figure
from pcgraph.report.study_states import energy_figure, similarity_figure
from pcgraph.report.study_steps import steps_figure
from pcgraph.study.results import Results
from pcgraph.study.trials import Trials


def study_figures(
    results: Results, rows: Sequence[ArmRow], search: Trials | None = None
) -> dict[str, Figure]:
    """The figures that a study allows, in the order of its page."""
    lesions = lesion_figures(results, rows)
    made = {
        "forest": forest_figure(results, rows),
        "search": search_figure(search) if search is not None else None,
        "steps": steps_figure(results, rows),
        **{f"lesions-{place}" if place else "lesions": one for place, one in enumerate(lesions)},
        "cost": cost_figure(results, rows),
        "stability": stability_figure(results, rows),
        "similarity": similarity_figure(results, rows),
        "energy": energy_figure(results, rows),
    }
    return {name: figure for name, figure in made.items() if figure is not None}
