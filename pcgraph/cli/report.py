"""``pcgraph report``: runs as one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcgraph.cli.options import AsJson, Force, Quiet, Trust, trusted
from pcgraph.cli.screen import Screen
from pcgraph.display.safe import one_line

if TYPE_CHECKING:
    from pcgraph.network import PCNetwork

REPORT = "report.html"


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run folders, as run, train, tune and evaluate write them."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The .html file. Left out: report.html in the folder of a single run (replaced if it is "
            "there), or here for several.",
            show_default=False,
        ),
    ] = None,
    force: Force = False,
    trust: Trust = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show runs on one HTML page that needs no network: curves, energies, predictions, wiring, tables.

    Several runs stand side by side, on the same axes, with a table of the settings that differ.
    """
    from pcgraph.files import check_free

    screen = Screen(as_json, quiet)
    alone = output is None and len(runs) == 1
    file = output or (runs[0] / REPORT if alone else Path(REPORT))
    if not alone:
        check_free(file, force=force, suffixes=(".html", ".htm"))
    with screen.working("Drawing"):
        lacking = missing()
        if lacking is not None:
            from pcgraph.errors import Fault, InputError

            message = f"a report needs {lacking}, which is not installed"
            raise InputError(Fault(message, hint="pip install 'pcgraph[plot]'"))
        from pcgraph.report.page import write_report

        write_report(file, runs, trust=trusted(trust))
    screen.result({"report": str(file), "runs": [str(run) for run in runs]}, f"Report: {one_line(file)}")


def page_beside(folder: Path, network: PCNetwork) -> None:
    """Write a run's page into its folder; nothing where a library that it needs is not installed.

    Raises:
        InputError: It could not be made; the run's numbers are kept.
    """
    if missing() is None:
        from pcgraph.files import write_text
        from pcgraph.report.page import report_page
        from pcgraph.runs.figures import numbers_kept

        with numbers_kept(folder, "the report"):
            write_text(folder / REPORT, report_page([folder], networks={folder.absolute().name: network}))


def missing() -> str | None:
    """The first library of the extra ``plot`` that is not installed."""
    from importlib.util import find_spec

    return next((name for name in ("matplotlib", "jinja2") if find_spec(name) is None), None)
