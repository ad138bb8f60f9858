"""What analyses found, as tables for the terminal and as CSV."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import rich.table

from pcgraph.analysis.overview import Analysed, Row
from pcgraph.display.safe import csv_cell, one_line
from pcgraph.display.text import format_count
from pcgraph.simulation.memory import shown
from pcgraph.study.results import to_csv

MOST = 12
"""Rows of a table that are shown; the others are in the file."""
Column = tuple[str, Callable[[Row], str]]


def analysis_csvs(found: Analysed) -> dict[str, str]:
    """A CSV by file name for every table that has rows."""
    return {f"{name}.csv": _csv(rows) for name, rows in found.rows.items() if rows}


def analysis_tables(found: Analysed) -> Iterator[rich.table.Table]:
    """The tables that a person reads: of `units` the last step, of `similarity` first and last step."""
    for name, (title, columns, choose) in TABLES.items():
        rows = choose(found.rows.get(name, []))
        if rows:
            yield _table(title, columns, rows)


def _csv(rows: Sequence[Row]) -> str:
    values = [[csv_cell(one) if isinstance(one, str) else one for one in row.values()] for row in rows]
    blank = [["" if one is None else one for one in row] for row in values]
    return to_csv(blank, list(rows[0]))


def _table(title: str, columns: Sequence[Column], rows: Sequence[Row]) -> rich.table.Table:
    left = len(rows) - MOST
    table = rich.table.Table(title=title, caption=f"and {left} more in the file" if left > 0 else None)
    names = list(dict.fromkeys((row["network"], row.get("condition")) for row in rows))
    about = [key for place, key in enumerate(("network", "condition")) if len({n[place] for n in names}) > 1]
    for head in (*about, *(head for head, _ in columns)):
        table.add_column(head, justify="left" if head in LEFT else "right")
    for row in rows[:MOST]:
        table.add_row(*(one_line(row[key]) for key in about), *(show(row) for _, show in columns))
    return table


def _text(key: str) -> Callable[[Row], str]:
    return lambda row: "" if row[key] is None else one_line(str(row[key]))


def _number(key: str, form: str = ".4g") -> Callable[[Row], str]:
    def show(row: Row) -> str:
        value = row[key]
        return "" if value is None or math.isnan(value) else format(value, form)

    return show


def _eigenvalue(row: Row) -> str:
    real, imaginary = row["real"], row["imaginary"]
    return f"{real:.4g}" if abs(imaginary) < 1e-6 else f"{real:.4g} {imaginary:+.4g}i"


def _amount(key: str, form: Callable[[Any], str]) -> Callable[[Row], str]:
    return lambda row: "?" if row[key] is None else form(row[key])


def _all(rows: Sequence[Row]) -> Sequence[Row]:
    return rows


def _outcomes(rows: Sequence[Row]) -> Sequence[Row]:
    """A row for every outcome, with how many images had it; medians of steps and distances."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        outcome = f"cycle of {row['period']}" if row["period"] else row["outcome"]
        found.setdefault((row["network"], row["condition"], outcome), []).append(row)
    return [
        {
            "network": network,
            "condition": condition,
            "outcome": outcome,
            "images": len(some),
            "steps": statistics.median(r["steps"] for r in some) if outcome == "settled" else None,
            "change": max(row["change"] for row in some),
            "distance": statistics.median(row["distance"] for row in some),
        }
        for (network, condition, outcome), some in found.items()
    ]


def _last_step(rows: Sequence[Row]) -> Sequence[Row]:
    last = {(row["network"], row["condition"]): row["step"] for row in rows}
    return [row for row in rows if row["step"] == last[row["network"], row["condition"]]]


def _strongest(rows: Sequence[Row]) -> Sequence[Row]:
    return sorted(rows, key=lambda row: -abs(row["loss"]) if row["loss"] == row["loss"] else -math.inf)


def _steepest(rows: Sequence[Row]) -> Sequence[Row]:
    return sorted(rows, key=lambda row: -abs(row["gradient"]))


def _ends(rows: Sequence[Row]) -> Sequence[Row]:
    """Each node's first state beside its last, and its last beside that of the first network, condition."""
    last = {(r["other_network"], r["other_condition"]): r["other_step"] for r in rows}
    found = []
    for row in rows:
        one, other = (row["network"], row["condition"]), (row["other_network"], row["other_condition"])
        ended = row["other_step"] == last[other]
        across = one == next(iter(last)) and row["step"] == last[one] and one != other
        if row["node"] == row["other_node"] and ended and (across or (one == other and row["step"] == 0)):
            found.append(row)
    return found


def _beside(row: Row) -> str:
    where = [row[f"other_{key}"] for key in ("network", "condition") if row[f"other_{key}"] != row[key]]
    return one_line(" ".join([*where, f"step {row['other_step']}"]))


LEFT = {"network", "condition", "image", "outcome", "where", "edge", "source", "node", "beside"}
TABLES: dict[str, tuple[str, list[Column], Callable[[Sequence[Row]], Sequence[Row]]]] = {
    "stability": (
        "In the long run",
        [
            ("images", _text("images")),
            ("outcome", _text("outcome")),
            ("steps", _number("steps", "g")),
            ("largest last change", _number("change", ".2g")),
            ("distance from the start", _number("distance", ".3g")),
        ],
        _outcomes,
    ),
    "modes": (
        "Leading modes of a step",
        [
            ("eigenvalue", _eigenvalue),
            ("factor a step", _number("modulus")),
            ("period", _number("period")),
            ("image", _text("image")),
            ("where", _text("shares")),
        ],
        _all,
    ),
    "cost": (
        "Cost of a step for one image",
        [
            ("predictor weights", _amount("predictor_weights", format_count)),
            ("backbone weights", _amount("backbone_weights", format_count)),
            ("multiply-adds", _amount("multiply_adds", format_count)),
            ("memory", _amount("memory", shown)),
        ],
        _all,
    ),
    "units": (
        "Errors per unit at the last step",
        [
            ("edge", _text("term")),
            ("energy", _number("energy")),
            ("error", _number("error")),
            ("state", _number("state")),
            ("error / state", _number("share", ".3g")),
        ],
        _last_step,
    ),
    "lesions": (
        "Without an edge",
        [
            ("edge", _text("term")),
            ("loss rises by", _number("loss", "+.4g")),
            ("other answers", _number("changed", ".1%")),
            ("accuracy falls by", _number("accuracy", "+.1%")),
            ("states move by", _text("moved")),
        ],
        _strongest,
    ),
    "gains": (
        "Gradient of the loss for each gain",
        [
            ("edge", _text("edge")),
            ("moves", lambda row: f"source {row['source']}" if row["source"] else "target"),
            ("gain", _number("gain")),
            ("gradient", _number("gradient", "+.4g")),
        ],
        _steepest,
    ),
    "similarity": (
        "Similarity of states",
        [
            ("node", _text("node")),
            ("step", _text("step")),
            ("beside", _beside),
            ("CKA", _number("cka", ".3f")),
            ("RDM correlation", _number("rdm_correlation", ".3f")),
        ],
        _ends,
    ),
}
"""By table: its title, its columns, and which rows a person sees."""
