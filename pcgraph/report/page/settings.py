"""How runs were made: their settings side by side, and how they differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pcgraph.report.page.parts import Section, Table
from pcgraph.report.page.reading import RunFolder

FACTS = ("kind", "name", "time", "command", "seed", "device", "dtype")
LONGEST = 120
MANY = 24
"""Settings from which on their table is folded away."""


def settings(runs: Sequence[RunFolder]) -> Section:
    """A table of what each run is, and for several one of the settings that differ."""
    tables = [_facts(runs)]
    kinds = dict.fromkeys(run.kind for run in runs)
    for kind in kinds:  # settings of different commands have nothing to do with each other
        own = [run for run in runs if run.kind == kind]
        if len(own) > 1:
            tables.append(_differences(own, f" ({kind})" if len(kinds) > 1 else ""))
    return Section("Runs" if len(runs) > 1 else "Run", tables=tables)


def _facts(runs: Sequence[RunFolder]) -> Table:
    rows = []
    for name in FACTS:
        cells = [_text(run.record.get(name, run.kind if name == "kind" else None)) for run in runs]
        if any(cells):
            rows.append([name, *cells])
    rows.append(["folder", *(str(run.path) for run in runs)])
    return Table("", ["", *(run.label for run in runs)], rows, code=True)


def _differences(runs: Sequence[RunFolder], which: str) -> Table:
    flat = [dict(_flat(run.record)) for run in runs]
    names = dict.fromkeys(name for one in flat for name in one)
    rows = []
    for name in names:
        cells = [_short(one.get(name)) for one in flat]
        if len(set(cells)) > 1 and name.partition(".")[0] not in ("time", "command", "seconds"):
            rows.append([name, *cells])
    note = "" if rows else "The settings are the same."
    head = ["setting", *(run.label for run in runs)]
    return Table(f"Settings that differ{which}", head, rows, note, code=True, folded=len(rows) > MANY)


def _flat(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """``spec.dynamics.error`` and so on, to the values that are no mappings."""
    for name, value in values.items():
        place = f"{within}.{name}" if within else str(name)
        if not within and name == "images":
            yield "images", len(value) if isinstance(value, list) else value
        elif isinstance(value, dict):
            yield from _flat(value, place)
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            for index, item in enumerate(value):
                yield from _flat(item, f"{place}[{index}]")
        else:
            yield place, value


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
