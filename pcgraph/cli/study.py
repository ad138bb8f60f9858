"""``pcgraph study``: which wiring helps."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcgraph.cli.options import AsJson, Quiet, Trust, trusted
from pcgraph.cli.outcome import draw
from pcgraph.cli.report import REPORT, missing
from pcgraph.cli.screen import Screen
from pcgraph.display.safe import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pcgraph.report.study import ArmRow
    from pcgraph.study.cells import Cell
    from pcgraph.study.comparisons import Comparison
    from pcgraph.study.plan import Plan
    from pcgraph.study.results import Results
    from pcgraph.study.store import CellStore
    from pcgraph.study.trials import Trials

    Compute = Callable[..., None]

CELLS = "cells"
FORMATS = (".png", ".svg", ".pdf")
NO_FIGURES = "No figures and no report: pip install 'pcgraph[plot]'."


def study(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The study, as YAML, JSON or TOML.")],
    plan: Annotated[
        bool, typer.Option("--plan", help="List what would be computed and what is there already, and stop.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The study's folder. What it holds of this or an earlier form of the study is not computed "
            "again. Left out: runs/NAME.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Processes. Left out: one a core.", show_default=False),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Compute on a Dask cluster instead: tcp://HOST:PORT, or its scheduler file.",
            show_default=False,
        ),
    ] = None,
    trust: Trust = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare wirings: train, tune and measure every arm of a study with every seed.

    What does not depend on each other runs at the same time; what was computed is kept and never computed
    again, whatever is added to the file. Writes study.csv (every number), arms.csv (a line an arm),
    comparisons.csv, what the study's analyses found, search.csv (a line a proposal of its search), figures,
    and report.html with all of it on one page.
    """
    if on is not None and workers is not None:
        from pcgraph.errors import Fault, InputError

        raise InputError(Fault("--workers is for this machine, and --on for a cluster", hint="Give one."))
    screen = Screen(as_json, quiet)
    with screen.working("Planning"):
        from pcgraph.study.needs import check_available

        check_available()
        from pcgraph.study.arms import Arms
        from pcgraph.study.file import load_study
        from pcgraph.study.plan import Plan
        from pcgraph.study.store import CellStore

        given = load_study(file)
        search = None
        if given.search is not None:
            from pcgraph.study.trials import Trials

            search = Trials(given, trust=trusted(trust))
            given = search.stand_in
        planned = Plan(given, Arms(given, trust=trusted(trust)))
    folder = out or Path("runs") / given.study
    if plan:
        done = CellStore(folder / CELLS).done(planned.cells)
        shown = planned_counts(planned, done)
        screen.result(shown, *plan_tables(planned, done), *([stands_in(search)] if search else []))
        return
    from pcgraph.runs.folder import run_folder

    with run_folder(given.study, folder, staged=False, resume="study", worth=(CELLS,)) as own:
        store = CellStore(own.work / CELLS)
        count = len(os.sched_getaffinity(0)) if workers is None else workers
        write_record(own.work, given.study, finished=False)
        own.kept = True
        compute = computing(store, on, count, trust)
        if search is not None:
            with screen.working(f"Searching {given.study}", search.search.trials) as advance:
                search.run(compute, store, advance)
            given = search.found
            planned = Plan(given, Arms(given, trust=trust))
        with screen.working(f"Studying {given.study}", len(planned.cells)) as advance:
            compute(planned.cells, advance)
        with screen.working("Comparing"):
            from pcgraph.files import write_text
            from pcgraph.report import study as report
            from pcgraph.study.comparisons import comparisons
            from pcgraph.study.results import Results, study_csv
            from pcgraph.study.stability import stability_csv

            results = Results(planned, store)
            compared = comparisons(results)
            rows = report.arm_rows(results, compared)
            texts = {
                "study.csv": study_csv(results),
                "arms.csv": report.arms_csv(rows),
                "comparisons.csv": report.comparisons_csv(compared),
                **({"stability.csv": stability_csv(results)} if given.analyses else {}),
                **({"search.csv": search.csv()} if search else {}),
            }
            for name, text in texts.items():
                write_text(own.work / name, text)
            write_record(own.work, given.study, finished=True, names=tuple(texts))
        own.finish()
        figures = draw(own.path, lambda: drawing(results, rows), FORMATS)
        page_beside(own.path, results, rows, compared, figures)
    contrasts = report.contrast_table(results, compared)
    screen.remark(report.arm_table(results, rows), *([contrasts] if contrasts else []))
    data: dict[str, Any] = {"folder": str(own.path), "arms": [row.plain() for row in rows]}
    if search is not None:
        from pcgraph.report.search import search_line

        data["search"] = search.plain()
        screen.remark(search_line(search, rows, results.reference))
    page = f"Report: {one_line(own.path / REPORT)}" if figures else NO_FIGURES
    screen.result(data, f"Study folder: {one_line(own.path)}", page)


def computing(store: CellStore, on: str | None, workers: int, trust: bool) -> Compute:
    """What computes cells: this machine, or a cluster."""
    from pcgraph.study.engine import run_cells

    def compute(cells: Sequence[Cell], advance: Callable[[int], None] = lambda done: None) -> None:
        if on is None:
            run_cells(cells, store, workers=workers, trust=trust, advance=advance)
        else:
            from pcgraph.study.cluster import run_on_cluster

            run_on_cluster(cells, store, on, trust=trust, advance=advance)

    return compute


def stands_in(search: Trials) -> str:
    """What a plan says of a search, whose cells nobody knows before."""
    asked = search.search
    return (
        f"Search: {asked.trials} trials come first; '{asked.arm}' stands for what they find, with all edges."
    )


def drawing(results: Results, rows: Sequence[ArmRow]) -> dict[str, Any]:
    """The figures; none where matplotlib is not installed."""
    try:
        from pcgraph.report.study_figures import study_figures
    except ImportError:
        return {}
    return dict(study_figures(results, rows))


def page_beside(
    folder: Path,
    results: Results,
    rows: Sequence[ArmRow],
    compared: Sequence[Comparison],
    figures: Mapping[str, Any],
) -> None:
    """Write the study's page into its folder; nothing where there are no figures.

    Raises:
        InputError: It could not be made; the numbers are kept.
    """
    if not figures or missing() is not None:
        return
    from pcgraph.files import write_text
    from pcgraph.report.page.study import study_page
    from pcgraph.runs.figures import numbers_kept

    with numbers_kept(folder, "the report"):
        write_text(folder / REPORT, study_page(results, rows, compared, figures))


def write_record(folder: Path, name: str, *, finished: bool, names: tuple[str, ...] = ()) -> None:
    """Write ``run.json`` of a study."""
    from pcgraph.files import write_text
    from pcgraph.files.seals import seal, to_json
    from pcgraph.runs.record import FOLDERS, RECORD, versions

    values = {
        "kind": "study",
        "name": name,
        "command": shlex.join(["pcgraph", *sys.argv[1:]]),
        "finished": finished,
        "versions": versions(),
        FOLDERS: [CELLS],
    }
    write_text(folder / RECORD, to_json(seal(values, folder, names)))


def planned_counts(planned: Plan, done: set[str]) -> dict[str, Any]:
    """How many cells of each kind there are, and how many of them are done."""
    kinds = dict.fromkeys(cell.kind for cell in planned.cells)
    return {
        "arms": [one.name for one in planned.arms.wirings],
        "seeds": planned.study.seeds,
        "conditions": planned.conditions,
        "cells": {
            kind: {
                "all": sum(cell.kind == kind for cell in planned.cells),
                "done": sum(cell.kind == kind and cell.key in done for cell in planned.cells),
            }
            for kind in kinds
        },
    }


def plan_tables(planned: Plan, done: set[str]) -> list[Any]:
    """What a person sees of the plan."""
    from rich.table import Table

    from pcgraph.report.study import plan_table

    cells = Table("cells", "all", "done", "to do", title="Work")
    for kind, counts in planned_counts(planned, done)["cells"].items():
        cells.add_row(kind, str(counts["all"]), str(counts["done"]), str(counts["all"] - counts["done"]))
    return [plan_table(planned.arms), cells]
