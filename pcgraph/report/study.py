"""The table of a study: a line an arm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import rich.table

from pcgraph.analysis.cost import step_cost, step_memory
from pcgraph.building.network import build
from pcgraph.display.text import format_count
from pcgraph.evaluation.conditions import from_key
from pcgraph.report.budgets import budgets
from pcgraph.report.wide_table import WideTable
from pcgraph.study.arms import Wiring
from pcgraph.study.comparisons import NOISE, Comparison
from pcgraph.study.controls import Budget
from pcgraph.study.plan import Plan
from pcgraph.study.results import Results, means, to_csv
from pcgraph.study.stability import ArmStability, arm_stability
from pcgraph.study.values import edge_name


@dataclass(frozen=True)
class ArmRow:
    """What an arm is, costs and does.

    Attributes:
        arm: Its name.
        edges: Its feedback edges, a lesion's without those of the term that was taken out.
        parameters: Weights of these edges; of a control those that learn.
        cost: Multiply-adds of one step for one image, of a lesion those of the whole arm; None where it
            cannot be told, and for a control, which makes no steps.
        memory: Bytes that such a step takes at once besides weights and states; None where it cannot be told.
        steps: The step at which it was judged, by seed.
        run: Multiply-adds of all steps that are evaluated, of a control those of what it does besides the
            plain network; None where it cannot be told.
        updates: How often weights or gains moved in training and tuning.
        failed: With how many seeds it could not be trained or tuned.
        accuracy: By condition, over seeds and images.
        compared: With the reference; None for that arm itself, and for an arm that failed.
        stability: Whether it settles; None where the study does not ask.
        budgets: What a step of the whole arm does to each node that moves.
    """

    arm: str
    edges: tuple[str, ...]
    parameters: int
    cost: int | None
    memory: int | None
    steps: tuple[int, ...]
    run: int | None
    updates: int
    failed: int
    accuracy: dict[str, float]
    compared: Comparison | None
    stability: ArmStability | None = None
    budgets: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """The same as plain values."""
        own = {name: value for name, value in self.__dict__.items() if name not in ("compared", "stability")}
        found = None if self.compared is None else dict(zip(COMPARED, _numbers(self.compared), strict=True))
        stable = {} if self.stability is None else {"stability": asdict(self.stability)}
        return {
            **own,
            "edges": list(self.edges),
            "steps": list(self.steps),
            "budgets": list(self.budgets),
            "compared": found,
            **stable,
        }


STABLE = ("spectral_radius", "settled", "steps_to_settle")
"""What is told of the stability: the largest radius over the seeds; images that settled; the median steps."""
COMPARED = ("difference", "low", "high", "p", "effect", "detectable")
"""What is told of a comparison: shares of the images, and their corrected interval and p."""


def _numbers(one: Comparison) -> tuple[float, ...]:
    detectable = math.nan if one.detectable is None else one.detectable
    return (
        one.difference.value,
        one.interval.low,
        one.interval.high,
        one.p,
        one.difference.effect,
        detectable,
    )


def arm_rows(results: Results, compared: Sequence[Comparison]) -> list[ArmRow]:
    """One for each arm, in the order of the file."""
    against = {one.first: one for one in compared if (one.second, one.over) == (results.reference, NOISE)}
    stable = arm_stability(results)
    rows = []
    for one in results.plan.arms.wirings:
        kept, parameters, cost, memory, shares = _size(one, results.plan.arms.trust)
        budget = results.plan.controls.budgets.get(one.name)
        run = None if cost is None else cost * results.plan.steps(one)
        if budget is not None:
            parameters, run, cost, memory = budget.parameters[1], budget.multiply_adds[1], None, None
        rows.append(
            ArmRow(
                one.name,
                kept,
                parameters,
                cost,
                memory,
                tuple(results.steps(one.name)),
                run,
                results.plan.controls.updates(one),
                results.failures(one.name),
                dict(means(results, one.name)),
                against.get(one.name),
                stable.get(one.name),
                shares,
            )
        )
    return rows


def arms_csv(rows: Sequence[ArmRow]) -> str:
    """``arms.csv``: a line an arm."""
    conditions, stable = list(rows[0].accuracy), _all_stable(rows)
    names = ["arm", "edges", "parameters", "multiply_adds", "memory", "steps", "run", "updates", "failed"]
    names += [*conditions, *COMPARED, *(STABLE if stable else ())]
    lines = [
        [
            row.arm,
            " ".join(row.edges),
            row.parameters,
            "" if row.cost is None else row.cost,
            "" if row.memory is None else row.memory,
            " ".join(map(str, row.steps)),
            "" if row.run is None else row.run,
            row.updates,
            row.failed,
            *row.accuracy.values(),
            *(_numbers(row.compared) if row.compared else [""] * len(COMPARED)),
            *(_stable(row.stability) if stable and row.stability else ()),
        ]
        for row in rows
    ]
    return to_csv(lines, names)


def _all_stable(rows: Sequence[ArmRow]) -> bool:
    """Whether all arms were looked at, and not only one that a search found."""
    return all(row.stability is not None for row in rows)


def _stable(one: ArmStability) -> tuple[float, str, float]:
    return one.spectral_radius, f"{one.settled}/{one.images}", one.steps


def comparisons_csv(compared: Sequence[Comparison]) -> str:
    """``comparisons.csv``: every arm less the reference, and the contrasts."""
    lines = [
        [one.first, one.second, one.over, one.difference.seeds, one.difference.images, *_numbers(one)]
        for one in compared
    ]
    return to_csv(lines, ["first", "second", "over", "seeds", "images", *COMPARED])


def arm_table(results: Results, rows: Sequence[ArmRow]) -> WideTable:
    """The table of the arms that a person reads."""
    study = results.plan.study
    seeds = "1 seed" if len(study.seeds) == 1 else f"{len(study.seeds)} seeds"
    title = f"{study.study}: {study.evaluate.word} over {seeds}"
    head, cells = arm_cells(results, rows)
    groups = [head.index(f"less {results.reference}"), head.index("edges")]
    return WideTable(title, head, cells, caption(results), groups)


def arm_cells(results: Results, rows: Sequence[ArmRow]) -> tuple[list[str], list[list[str]]]:
    """What that table holds: the names of its columns, and a line an arm."""
    head = ["arm", *map(condition_text, rows[0].accuracy), f"less {results.reference}", "interval", "p"]
    head += ["edges", "parameters", "multiply-adds", "of a run", "updates"]
    stable = _all_stable(rows)
    head += ["spectral radius", "settled", "in steps"] if stable else []
    lines = []
    for row in rows:
        accuracy = ["failed" if math.isnan(one) else f"{one:.1%}" for one in row.accuracy.values()]
        cost, run = ("" if one is None else format_count(one) for one in (row.cost, row.run))
        size = (str(len(row.edges)), format_count(row.parameters), cost or "-", run or "?", str(row.updates))
        lines.append(
            [
                row.arm,
                *accuracy,
                *interval_text(row.compared),
                *size,
                *_settling(row.stability if stable else None),
            ]
        )
    return head, lines


def contrast_table(results: Results, compared: Sequence[Comparison]) -> WideTable | None:
    """The planned contrasts; None if there are none."""
    if not results.plan.study.contrasts:
        return None
    return WideTable("Planned contrasts", *contrast_cells(results, compared))


def contrast_cells(results: Results, compared: Sequence[Comparison]) -> tuple[list[str], list[list[str]]]:
    """What that table holds."""
    asked = {(first, second) for first, second in results.plan.study.contrasts}
    own = [one for one in compared if (one.first, one.second) in asked]
    lines = [[f"{one.first} less {one.second}{_where(one)}", *interval_text(one)] for one in own]
    return ["contrast", "difference", "interval", "p"], lines


def _where(one: Comparison) -> str:
    return "" if one.over == NOISE else f", {one.over} noise"


def interval_text(one: Comparison | None) -> tuple[str, str, str]:
    """Points of a per cent."""
    if one is None:
        return "", "", ""
    low, high = 100 * one.interval.low, 100 * one.interval.high
    p = "<0.001" if one.p < 0.001 else f"{one.p:.3f}"
    return f"{one.difference.points:+.1f}", f"{low:+.1f} to {high:+.1f}", p


def _settling(one: ArmStability | None) -> tuple[str, ...]:
    if one is None:
        return ()
    radius, settled, steps = _stable(one)
    shown = "?" if math.isnan(radius) else f"{radius:.3f}"
    return shown, settled, "" if math.isnan(steps) else f"{steps:g}"


def caption(results: Results) -> str:
    """What the numbers of the table mean."""
    what = "the noisy conditions" if len(results.plan.conditions) > 1 else "the clean images"
    said = f"Differences: points of a per cent, mean over {what}; intervals and p hold for all together."
    if len(results.plan.study.seeds) == 1:
        said += " One seed: they speak of other images, not of other seeds."
    return said


def plan_table(plan: Plan) -> rich.table.Table:
    """The arms before anything is computed: their edges, and what the edges do to each node at a step."""
    table = rich.table.Table("arm", "feedback edges", "taken out", "updates", "budgets", title="Arms")
    for one in plan.arms.wirings:
        network = build(one.spec, trust=plan.arms.trust, weights=False)
        shown = "\n".join(f"{budget.node}: {budget.text}" for budget in budgets(network))
        if one.name in plan.controls.budgets:
            shown = _control(plan.controls.budgets[one.name])
        edges, updates = "\n".join(map(edge_name, one.edges)) or "(none)", plan.controls.updates(one)
        table.add_row(one.name, edges, one.cut or "", str(updates), shown)
    return table


def _control(budget: Budget) -> str:
    """What a control learns, beside what the arm has that it is compared with."""
    lines = ["the backbone learns" if budget.size is None else "a denoiser learns"]
    pairs = {"updates": budget.updates, "weights": budget.parameters, "multiply-adds": budget.multiply_adds}
    for name, (like, own) in pairs.items():
        shown = "?" if like is None else format_count(like)
        lines.append(f"{format_count(own)} {name} ({budget.like}: {shown})")
    return "\n".join(lines)


def condition_text(name: str) -> str:
    """``gaussian 0.5``, with names as a study file has them."""
    noise, level = from_key(name)
    return noise if level == 0 else f"{noise} {level:g}"


def _size(arm: Wiring, trust: bool) -> tuple[tuple[str, ...], int, int | None, int | None, tuple[str, ...]]:
    """The edges that are left, their weights; multiply-adds, bytes and budgets of a step of the whole arm."""
    network = build(arm.spec, trust=trust, weights=False)
    gone = {edge.name for edge in network.graph.terms.get(arm.cut or "", ())}
    kept = tuple(name for name in map(edge_name, arm.edges) if name not in gone)
    weights = [p.numel() for name in kept for p in network.predictors[name].parameters()]
    shares = tuple(f"{one.node}: {one.text}" for one in budgets(network))
    return kept, sum(weights), step_cost(network), step_memory(network), shares
