"""``pcgraph study``: which wiring helps."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcgraph.cli.options import AsJson, FastStudy, Quiet, Trust, trusted
from pcgraph.cli.outcome import draw
from pcgraph.cli.report import REPORT, missing
from pcgraph.cli.screen import Screen
from pcgraph.display.safe import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pcgraph.report.study import ArmRow
    from pcgraph.study.comparisons import Comparison
    from pcgraph.study.estimate import Estimate
    from pcgraph.study.file import Study
    from pcgraph.study.layouts import Layouts
    from pcgraph.study.plan import Plan
    from pcgraph.study.results import Results
    from pcgraph.study.store import CellStore
    from pcgraph.study.trials import Trials

CELLS, ARMS = "cells", "arms"
LAYOUTS = "layouts.json"
"""How the networks of a study with ``--fast`` lie in memory."""
FORMATS = (".png", ".svg", ".pdf")
NO_REPORT = "No report: {} is not installed (pip install 'pcgraph[plot]')."


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
    fast: FastStudy = False,
    trust: Trust = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare wirings: train, tune and measure every arm of a study with every seed.

    What does not depend on each other runs at the same time; what was computed is kept and never computed
    again, whatever is added to the file. Writes study.csv (every number), arms.csv (a line an arm),
    comparisons.csv, what else the study asks for (search.csv, stability.csv, distances.csv), figures, and
    report.html with all of it on one page.
    """
    if on is not None and workers is not None:
        from pcgraph.errors import Fault, InputError

        raise InputError(Fault("--workers is for this machine, and --on for a cluster", hint="Give one."))
    screen = Screen(as_json, quiet)
    with screen.working("Planning"):
        from pcgraph.study.needs import check_available, missing_weights

        check_available()
        from pcgraph.study.arms import Arms
        from pcgraph.study.file import load_study
        from pcgraph.study.layouts import usual
        from pcgraph.study.plan import Plan
        from pcgraph.study.store import CellStore

        given = load_study(file)
        folder = out or Path("runs") / given.study
        layouts = faster_layouts(folder / LAYOUTS, given, on, trust) if fast else None
        search = searching(given, trusted(trust))
        given = search.stand_in if search else given
        arms = Arms(given, trust=trusted(trust))
        missing_files = missing_weights(arms)
        layouts = None if missing_files else layouts
        planned = Plan(given, arms, layout=layouts or usual)
    if layouts is not None:
        screen.aside(f"Fastest: {layouts}")
    if plan:
        done = CellStore(folder / CELLS).done(planned.cells)
        guess = None
        if not missing_files:
            with screen.working("Timing a few batches"):
                from pcgraph.study.estimate import estimate

                guess = estimate(planned, done, search)
        told = [*remarks(planned), *([stands_in(search, guess)] if search else []), *map(str, missing_files)]
        if guess is not None:
            told.insert(0, time_needed(guess, workers or cores()))
        shown = {**planned_counts(planned, done), "estimate": guess and asdict(guess)}
        screen.result(shown, *plan_tables(planned, done, guess), *told)
        return
    if missing_files:
        from pcgraph.errors import SpecError

        raise SpecError(missing_files)
    from pcgraph.files import write_text
    from pcgraph.runs.folder import run_folder

    with run_folder(given.study, folder, staged=False, resume="study", worth=(CELLS,)) as own:
        store = CellStore(own.work / CELLS)
        count = workers or cores()
        write_record(own.work, given.study, finished=False)
        if layouts is not None:
            write_text(own.work / LAYOUTS, layouts.text())
        own.kept = True
        with computing(store, on, count, trust) as compute:
            if search is not None:
                with screen.working(f"Searching {given.study}", search.search.trials) as advance:
                    search.run(compute, store, advance)
                planned = Plan(search.found, Arms(search.found, trust=trust))
            with screen.working(f"Studying {given.study}", len(planned.cells)) as advance:
                compute(planned.cells, advance=advance)
        with screen.working("Comparing"):
            from pcgraph.report import study as report
            from pcgraph.report.power import too_few
            from pcgraph.report.settled import unsettled
            from pcgraph.study.comparisons import comparisons
            from pcgraph.study.distances import distances_csv
            from pcgraph.study.results import Results, study_csv
            from pcgraph.study.stability import stability_csv
            from pcgraph.study.states import energy_csv, similarity_csv

            analysed = {"stability": stability_csv, "similarity": similarity_csv, "energy": energy_csv}
            results = Results(planned, store)
            compared = comparisons(results)
            rows = report.arm_rows(results, compared)
            texts = {
                "study.csv": study_csv(results),
                "arms.csv": report.arms_csv(rows),
                "comparisons.csv": report.comparisons_csv(compared),
                **({"search.csv": search.csv()} if search else {}),
                **{f"{name}.csv": analysed[name](results) for name in given.analyses.asked},
                **({"distances.csv": distances_csv(results)} if given.evaluate.distances else {}),
            }
            for name, text in texts.items():
                write_text(own.work / name, text)
            write_arms(own.work / ARMS, results)
            write_record(own.work, given.study, finished=True, names=tuple(texts))
        own.finish()
        figures = draw(own.path, lambda: drawing(results, rows, search), FORMATS)
        page_beside(own.path, results, rows, compared, figures, search)
    contrasts = report.contrast_table(results, compared)
    screen.remark(report.arm_table(results, rows), *([contrasts] if contrasts else []), *remarks(planned))
    screen.remark(*filter(None, (too_few(compared), unsettled(rows))))
    data: dict[str, Any] = {"folder": str(own.path), "arms": [row.plain() for row in rows]}
    if search is not None:
        from pcgraph.report.search import front_table, search_text

        data["search"] = search.plain()
        screen.remark(front_table(search), search_text(search, results, rows))
    lacking = missing()
    page = NO_REPORT.format(lacking) if lacking else f"Report: {one_line(own.path / REPORT)}"
    screen.result(data, f"Study folder: {one_line(own.path)}", page)


def faster_layouts(file: Path, given: Study, on: str | None, trust: bool) -> Layouts:
    """What chooses the layout of each wiring's networks.

    Raises:
        InputError: It would have to be chosen for other machines, or for wirings that nobody knows yet.
    """
    from pcgraph.errors import InputError
    from pcgraph.study.layouts import Layouts

    if on is not None:
        raise InputError("--fast measures this machine, and --on computes on others")
    if given.search is not None:
        raise InputError("--fast measures each wiring first, and a search finds its wirings on the way")
    return Layouts(file, trust)


def searching(study: Study, trust: bool) -> Trials | None:
    """The search of a study; None if it has none."""
    if study.search is None:
        return None
    from pcgraph.study.trials import Trials

    return Trials(study, trust=trust)


@contextmanager
def computing(store: CellStore, on: str | None, workers: int, trust: bool) -> Iterator[Callable[..., None]]:
    """What computes cells: this machine, or a cluster."""
    from pcgraph.study.engine import Engine

    if on is None:
        with Engine(store, workers=workers, trust=trust) as engine:
            yield engine.compute
    else:
        from pcgraph.study.cluster import run_on_cluster

        yield partial(run_on_cluster, store=store, address=on, trust=trust)


def stands_in(search: Trials, guess: Estimate | None) -> str:
    """What a plan says of a search, whose cells nobody knows before."""
    asked, seconds = search.search, "?" if guess is None else f"{guess.seconds['search']:.3g}"
    return (
        f"Search: {asked.trials} trials come first and take {seconds} seconds of that if all are measured "
        f"and have all edges; here '{asked.arm}' stands for what they find."
    )


def drawing(results: Results, rows: Sequence[ArmRow], search: Trials | None) -> dict[str, Any]:
    """The figures; none where matplotlib is not installed."""
    try:
        from pcgraph.report.study_figures import study_figures
    except ImportError:
        return {}
    return dict(study_figures(results, rows, search))


def page_beside(
    folder: Path,
    results: Results,
    rows: Sequence[ArmRow],
    compared: Sequence[Comparison],
    figures: Mapping[str, Any],
    search: Trials | None,
) -> None:
    """Write the study's page into its folder; nothing where a library that it needs is not installed.

    Raises:
        InputError: It could not be made; the numbers are kept.
    """
    if missing() is not None:
        return
    from pcgraph.files import write_text
    from pcgraph.report.page.study import study_page
    from pcgraph.runs.figures import numbers_kept

    with numbers_kept(folder, "the report"):
        write_text(folder / REPORT, study_page(results, rows, compared, figures, search))


def write_arms(folder: Path, results: Results) -> None:
    """Write the spec of each arm and seed, instead of those that are there."""
    from pcgraph.files import write_text
    from pcgraph.study.networks import specs_of_arms

    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.seed*.yaml"):
        old.unlink()
    for name, text in specs_of_arms(results, folder).items():
        write_text(folder / name, text)


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
        FOLDERS: [CELLS, ARMS],
    }
    write_text(folder / RECORD, to_json(seal(values, folder, names)))


def remarks(planned: Plan) -> list[str]:
    """What the tables of a study do not say."""
    from pcgraph.study.untrained import untrained

    said = [f"Untrained in {arm}: {', '.join(edges)}" for arm, edges in untrained(planned.arms).items()]
    for names in planned.alike():
        said.append(f"One network under several names, compared as often: {', '.join(names)}")
    if planned.study.evaluate.right == "agreement":
        said.append("Right is what the plain network answers to the clean image: this is agreement with it.")
    return said


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


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def time_needed(guess: Estimate, workers: int) -> str:
    """The estimate in words."""
    if not guess.total:
        return "Estimate: nothing is left to compute; tables and figures are made anew."
    total, shared = map(duration, (guess.total, guess.total / workers))
    return (
        f"Estimate: {total} in one process, {shared} in {workers} that have a core each; "
        f"from a few batches of '{guess.arm}' and of the controls on this machine, with one thread. "
        "The start of the program and its processes, and tables and figures at the end, are not in it: "
        "half a minute or so."
    )


def duration(seconds: float) -> str:
    """As exact as a guess is."""
    if seconds < 90:
        return f"{seconds:.0f} seconds" if seconds >= 1.5 else "a second"
    return f"{seconds / 60:.1f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def plan_tables(planned: Plan, done: set[str], guess: Estimate | None) -> list[Any]:
    """What a person sees of the plan."""
    from rich.table import Table

    from pcgraph.report.study import plan_table

    cells = Table("cells", "all", "done", "to do", "seconds, about", title="Work")
    for kind, counts in planned_counts(planned, done)["cells"].items():
        left = counts["all"] - counts["done"]
        seconds = "?" if guess is None else f"{guess.seconds.get(kind, 0.0):.3g}"
        cells.add_row(kind, str(counts["all"]), str(counts["done"]), str(left), seconds)
    return [plan_table(planned), cells]
