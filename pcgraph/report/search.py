"""What came of the search of a study, in words and as a table."""

from __future__ import annotations

from collections.abc import Sequence

from pcgraph.display.text import format_count
from pcgraph.report.settled import settling_text
from pcgraph.report.study import ArmRow, interval_text
from pcgraph.report.wide_table import WideTable
from pcgraph.study.results import Results
from pcgraph.study.search import ACCURACY, LESS
from pcgraph.study.trials import Trial, Trials
from pcgraph.study.values import edge_name

EDGES = "feedback edges"


def search_text(search: Trials, results: Results, rows: Sequence[ArmRow]) -> str:
    """What was found on held-out images, and how sure that is on the test images with fresh seeds."""
    found, seeds = search.plain(), len(search.search.seeds)
    (row,) = [one for one in rows if one.arm == search.search.arm]
    objective, value = next(iter(found["objectives"].items()))
    told = found["reference"].get(objective)
    against = "" if told is None else f" ('{results.reference}': {told:.3f})"
    what = search.study.evaluate.word if objective == ACCURACY else objective
    return (
        f"Search: {found['trials']} trials, {found['pruned']} pruned, {found['failed']} failed. Trial "
        f"{found['chosen']} became '{found['arm']}': {what} {value:.3f}{against} on held-out images, "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}: the best of many, and so too high. On the test "
        f"images, with seeds that the search did not see: {_on_fresh_seeds(row, results.reference)} "
        f"{settling_text(row)}"
    )


def _on_fresh_seeds(row: ArmRow, reference: str) -> str:
    if row.compared is None:
        return "it is the reference." if row.arm == reference else "no comparison: a seed failed."
    difference, interval, p = interval_text(row.compared)
    return f"{difference} points to '{reference}', from {interval} (corrected for all comparisons), p = {p}."


def front_table(search: Trials) -> WideTable:
    """The proposals that no other beats."""
    head, lines = front_cells(search)
    title = "Search: what no other proposal beats, on held-out images"
    return WideTable(title, head, lines, words=(0, head.index(EDGES)))


def front_cells(search: Trials) -> tuple[list[str], list[list[str]]]:
    """What that table holds, the best first; at its end the reference."""
    names = search.search.objectives
    fields = [str(field) for field in search.search.fields]
    order = sorted(search.front, key=lambda one: search.objectives.losses(one.values))
    lines = [[*_numbers(names, one), *_drawn(search, one, fields)] for one in order]
    if search.reference is not None and search.reference.wiring is not None:
        edges = [edge_name(edge) for edge in search.reference.wiring.edges]
        row = [*_numbers(names, search.reference), ", ".join(edges) or "(none)"]
        lines.append([search.reference.wiring.name, *row[1:], *[""] * len(fields)])
    return ["trial", *names, EDGES, *fields], lines


def _numbers(names: Sequence[str], one: Trial) -> list[str]:
    """Its number and objectives."""
    values = one.values or [None] * len(names)
    return [str(one.number), *(_value(*pair) for pair in zip(names, values, strict=True))]


def _value(name: str, value: float | None) -> str:
    if value is None:
        return "?"
    if name not in LESS:
        return f"{value:.1%}"
    return format_count(round(value)) if name == "multiply_adds" else f"{value:.3f}"


def _drawn(search: Trials, one: Trial, fields: Sequence[str]) -> list[str]:
    """Its edges with what was drawn for each, and its fields."""
    shown = search.space.shown(one.drawn)
    edges = []
    for edge in one.wiring.edges if one.wiring else ():
        own = {str(field): shown.get(f"{edge_name(edge)} {field}") for field in search.search.each}
        told = [f"{field} {_short(value)}" for field, value in own.items() if value is not None]
        edges.append(f"{edge_name(edge)} ({', '.join(told)})" if told else edge_name(edge))
    return [", ".join(edges) or "(none)", *(_short(shown.get(field, "")) for field in fields)]


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
