"""A study as one page: what was asked and how, one table of the arms, and the figures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml
from matplotlib.figure import Figure

from pcgraph.report.page.charts import PIXELS, svg
from pcgraph.report.page.page import render
from pcgraph.report.page.parts import Section, Table
from pcgraph.report.power import power_text, too_few
from pcgraph.report.search import front_cells, search_text
from pcgraph.report.settled import unsettled
from pcgraph.report.study import ArmRow, arm_cells, caption, condition_text, contrast_cells
from pcgraph.study.comparisons import Comparison
from pcgraph.study.file import Study
from pcgraph.study.results import Results
from pcgraph.study.trials import Trials

TITLES = {
    "forest": "Differences",
    "search": "Search",
    "steps": "Over the steps",
    "lesions": "Which edge mattered",
    "cost": "Cost and gain",
    "stability": "Does it settle?",
    "similarity": "How alike do states stay to clean ones?",
    "energy": "How large are the errors?",
}
"""By the first word of a figure's name, in the order of the page."""
NOTES = {
    "energy": "Each number is the root mean square of a feedback edge's error over that of the state that it "
    "predicts. 0: wholly predicted; 1: no better than predicting nothing; above 1: worse than that, as the "
    "prediction is further from the state than zero is."
}
"""What the numbers of a figure are, where it does not say so itself."""
RIGHT = {
    "class": "",
    "agreement": "those of the plain network to the clean images: what is told is agreement with it",
}
SHARES = {
    ("feedback", "target"): "lambda of a node, by the feedback edges into it",
    ("feedback", "edge"): "no lambda: each edge draws with all of it",
    ("error", "source"): "alpha of a node, by the feedback edges out of it",
    ("error", "edge"): "no alpha: each edge moves its source with all of it",
}


def study_page(
    results: Results,
    rows: Sequence[ArmRow],
    compared: Sequence[Comparison],
    figures: Mapping[str, Figure],
    search: Trials | None = None,
) -> str:
    """The page of a study.

    Args:
        results: The study.
        rows: Its arms.
        compared: Its comparisons.
        figures: As `study_figures` makes them.
        search: The search, where the study has one.
    """
    study = results.plan.study
    arms, contrasts = arm_cells(results, rows), contrast_cells(results, compared)
    tables = [Table("", *arms, note=caption(results))]
    if contrasts[1]:
        tables.append(Table("Planned contrasts", *contrasts))
    tables.append(_wirings(results, rows))
    sections = [
        Section("Question and design", tables=[_design(results)], notes=_warnings(results, rows, compared)),
        Section("Arms", tables=tables),
        *_drawn(study.study, figures, _search(results, rows, search)),
        Section("Study file", texts=[("as YAML, with what was left out left out", _file(study))]),
    ]
    return render(study.study, f"a study of {len(rows)} wirings with {_seeds(study)}", sections)


def _search(results: Results, rows: Sequence[ArmRow], search: Trials | None) -> Section:
    """What came of a search; an empty section where there is none."""
    if search is None:
        return Section(TITLES["search"])
    front = Table("What no other proposal beats, on held-out images", *front_cells(search))
    return Section(TITLES["search"], tables=[front], notes=[search_text(search, results, rows)])


def _drawn(name: str, figures: Mapping[str, Figure], search: Section) -> list[Section]:
    by_title: dict[str, list[tuple[str, str]]] = {title: [] for title in TITLES.values()}
    for key, figure in figures.items():
        title = TITLES[key.partition("-")[0]]
        by_title[title].append(("", svg(figure, f"{name}: {title} ({key})", scale=PIXELS)))
    notes = {TITLES[name]: [note] for name, note in NOTES.items()}
    empty = {title: Section(title, notes=notes.get(title, ())) for title in by_title}
    empty[search.title] = search
    return [replace(empty[title], plots=plots) for title, plots in by_title.items() if plots]


def _warnings(results: Results, rows: Sequence[ArmRow], compared: Sequence[Comparison]) -> list[str]:
    """What the numbers cannot say, and arms that do not settle."""
    said = [too_few(compared), power_text(compared), unsettled(rows)]
    if len(results.plan.study.seeds) == 1:
        said.append("One seed: nothing here says what another training would show.")
    failed = [one.name for one in results.plan.arms.wirings if results.failures(one.name)]
    if failed:
        said.append(f"Failed with some seed, and not compared: {', '.join(failed)}.")
    return [one for one in said if one]


def _design(results: Results) -> Table:
    plan, study = results.plan, results.plan.study
    images = study.evaluate.data or (study.train or {}).get("data") or "those of the base"
    limit = f", {study.evaluate.limit} of them" if study.evaluate.limit else ""
    rows = [
        ["asked", f"what is each wiring worth, against {results.reference}?"],
        ["base", study.base],
        ["arms", _arms(results)],
        ["seeds", ", ".join(map(str, study.seeds))],
        ["shared", _shared(study)],
        ["left out of the base", ", ".join(study.reset)],
        ["training", _flat(study.train)],
        ["tuning", _flat(study.tune)],
        ["search", _searched(study)],
        ["measured on", f"{images}{limit}"],
        ["right answers", RIGHT[study.evaluate.right]],
        ["conditions", ", ".join(condition_text(one) for one in plan.conditions)],
        ["compared at step", str(study.evaluate.step)],
        ["analyses", ", ".join(study.analyses.asked)],
        ["contrasts", "; ".join(f"{first} less {second}" for first, second in study.contrasts)],
    ]
    return Table("", ["", ""], [row for row in rows if row[1]], code=True)


def _arms(results: Results) -> str:
    wirings = results.plan.arms.wirings
    counts = Counter(str(one.kind) for one in wirings)
    kinds = {"drawn": "drawn", "grid": "points of a grid", "lesion": "lesions", "control": "controls"}
    told = ", ".join(f"{counts[kind]} {words}" for kind, words in kinds.items() if counts[kind])
    return f"{len(wirings)}{f', of them {told}' if told else ''}"


def _shared(study: Study) -> str:
    """What is the same in all arms, whatever their number of edges."""
    given = {} if study.share is None else study.share.model_dump()
    divided = [SHARES[what, how] for what, how in given.items()] or ["lambda and alpha as the base says"]
    return "; ".join([*divided, "in all arms the same images, noise draws and, by seed, first weights"])


def _wirings(results: Results, rows: Sequence[ArmRow]) -> Table:
    """The edges of every arm, and the budgets of its nodes."""
    cut = {one.name: one.cut or "" for one in results.plan.arms.wirings}
    lines = [
        [row.arm, ", ".join(row.edges) or "(none)", cut[row.arm], "; ".join(row.budgets)] for row in rows
    ]
    head = ["arm", "feedback edges", "taken out", "budgets"]
    return Table("Edges and budgets", head, lines, code=True, folded=True)


def _searched(study: Study) -> str:
    asked = study.search
    if asked is None:
        return ""
    sampler = asked.sampler if isinstance(asked.sampler, str) else next(iter(asked.sampler))
    objectives = ", ".join(asked.objectives)
    return f"'{asked.arm}': the best of {asked.trials} trials of {sampler}, by {objectives}"


def _flat(given: Mapping[str, Any] | None) -> str:
    """``epochs 12, data digits``."""
    parts = (
        f"{name} {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in (given or {}).items()
    )
    return ", ".join(parts)


def _seeds(study: Study) -> str:
    return "one seed" if len(study.seeds) == 1 else f"{len(study.seeds)} seeds"


def _file(study: Study) -> str:
    values = study.model_dump(mode="json", exclude_unset=True)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
