"""The table of a study: a line an arm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import rich.table

from pcgraph.building.network import build
from pcgraph.display.text import format_count
from pcgraph.evaluation.conditions import from_key
from pcgraph.report.budgets import budgets
from pcgraph.report.description import step_cost
from pcgraph.study.arms import Arms, Wiring
from pcgraph.study.file import Study
from pcgraph.study.plan import edge_name
from pcgraph.study.results import Results, means, to_csv


@dataclass(frozen=True)
class ArmRow:
    """What an arm is, costs and does.

    Attributes:
        arm: Its name.
        edges: Its feedback edges, a lesion's without the one that was taken out.
        parameters: Weights of its feedback.
        cost: Multiply-adds of one step for one image; None where it cannot be told.
        steps: The step at which it was judged, by seed.
        failed: With how many seeds it could not be trained or tuned.
        accuracy: By condition, over seeds and images.
        difference: Of the mean over the noisy conditions to that of the reference; NaN for that arm itself.
    """

    arm: str
    edges: tuple[str, ...]
    parameters: int
    cost: int | None
    steps: tuple[int, ...]
    failed: int
    accuracy: dict[str, float]
    difference: float

    def plain(self) -> dict[str, Any]:
        """The same as plain values."""
        return {**self.__dict__, "edges": list(self.edges), "steps": list(self.steps)}


def arm_rows(results: Results) -> list[ArmRow]:
    """One for each arm, in the order of the file."""
    study = results.plan.study
    reference = study.reference or next(iter(study.arms))
    base = _robust(results, reference)
    rows = []
    for one in results.plan.arms.wirings:
        parameters, cost = _size(one, results.plan.arms.trust)
        edges = tuple(edge_name(edge) for edge in one.edges if edge_name(edge) != one.cut)
        difference = math.nan if one.name == reference else _robust(results, one.name) - base
        rows.append(
            ArmRow(
                one.name,
                edges,
                parameters,
                cost,
                tuple(results.steps(one.name)),
                results.failures(one.name),
                dict(means(results, one.name)),
                difference,
            )
        )
    return rows


def arms_csv(rows: Sequence[ArmRow]) -> str:
    """``arms.csv``."""
    conditions = list(rows[0].accuracy)
    names = ["arm", "edges", "parameters", "multiply_adds", "steps", "failed", *conditions, "difference"]
    lines = [
        [
            row.arm,
            " ".join(row.edges),
            row.parameters,
            "" if row.cost is None else row.cost,
            " ".join(map(str, row.steps)),
            row.failed,
            *row.accuracy.values(),
            row.difference,
        ]
        for row in rows
    ]
    return to_csv(lines, names)


def arm_table(study: Study, rows: Sequence[ArmRow]) -> rich.table.Table:
    """The table that a person reads."""
    reference = study.reference or next(iter(study.arms))
    table = rich.table.Table(
        title=f"{study.study}: accuracy over {len(study.seeds)} seeds",
        caption=f"vs {reference}: the mean over the noisy conditions, in points of a per cent",
    )
    table.add_column("arm")
    for head in (
        "edges",
        "parameters",
        "multiply-adds",
        *map(_condition, rows[0].accuracy),
        f"vs {reference}",
    ):
        table.add_column(head, justify="right")
    for row in rows:
        accuracy = [("failed" if math.isnan(one) else f"{one:.1%}") for one in row.accuracy.values()]
        cost = "?" if row.cost is None else format_count(row.cost)
        shown = "" if math.isnan(row.difference) else f"{100 * row.difference:+.1f}"
        table.add_row(row.arm, str(len(row.edges)), format_count(row.parameters), cost, *accuracy, shown)
    return table


def plan_table(arms: Arms) -> rich.table.Table:
    """The arms before anything is computed: their edges, and what the edges do to each node at a step."""
    table = rich.table.Table("arm", "feedback edges", "taken out", "budgets", title="Arms")
    for one in arms.wirings:
        network = build(one.spec, trust=arms.trust, weights=False)
        shown = "\n".join(f"{budget.node}: {budget.text}" for budget in budgets(network))
        table.add_row(one.name, "\n".join(map(edge_name, one.edges)) or "(none)", one.cut or "", shown)
    return table


def _robust(results: Results, arm: str) -> float:
    values = means(results, arm)
    names = results.robust()
    return sum(values[name] for name in names) / len(names)


def _condition(name: str) -> str:
    noise, level = from_key(name)
    return noise if level == 0 else f"{noise} {level:g}"


def _size(arm: Wiring, trust: bool) -> tuple[int, int | None]:
    """Weights of the feedback, and multiply-adds of a step, without what is taken out."""
    network = build(arm.spec, trust=trust, weights=False)
    for edge in network.graph.terms.get(arm.cut or "", ()):
        del network.predictors[edge.name]
    parameters = sum(parameter.numel() for parameter in network.predictors.parameters())
    whole = build(arm.spec, trust=trust, weights=False)
    return parameters, step_cost(whole)
