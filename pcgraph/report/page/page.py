"""One page of one run or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup

from pcgraph import __version__
from pcgraph.display.safe import printable
from pcgraph.files import write_text
from pcgraph.report.page.analysis import analysis
from pcgraph.report.page.evaluation import evaluation
from pcgraph.report.page.parts import Section
from pcgraph.report.page.reading import RunFolder, read_runs
from pcgraph.report.page.settings import settings
from pcgraph.report.page.simulation import query, simulation
from pcgraph.report.page.training import training
from pcgraph.report.page.wiring import SPEC, wirings

if TYPE_CHECKING:
    from pcgraph.network import PCNetwork

KINDS: dict[str, tuple[str, Callable[[str, Sequence[RunFolder]], Section]]] = {
    "evaluate": ("Evaluation", evaluation),
    "run": ("Simulation", simulation),
    "query": ("Query", query),
    "tune": ("Tuning", training),
    "train": ("Training", training),
    "analyse": ("Analyses", analysis),
}
_HERE = Path(__file__).parent


def write_report(path: Path, runs: Sequence[Path], *, trust: bool = False) -> None:
    """Write the page of ``runs`` to a file, whole or not at all; see `report_page`."""
    write_text(path, report_page(runs, trust=trust))


def report_page(
    runs: Sequence[Path], *, trust: bool = False, networks: Mapping[str, PCNetwork] | None = None
) -> str:
    """The page that shows run folders, side by side if they are several.

    Args:
        runs: The folders.
        trust: Whether ``python:`` objects in their specs may be imported, to draw the wiring.
        networks: Networks that are built already, by the name of the run's folder.

    Raises:
        InputError: A folder is no run folder, or a file in it is damaged; says which, and the line.
    """
    found = read_runs(runs)
    sections = [settings(found)]
    for kind, (title, show) in KINDS.items():
        own = [run for run in found if run.kind == kind]
        if own:
            sections.append(show(title, own))
    sections += [wirings(found, trust, networks or {}), _specs(found)]
    names = list(dict.fromkeys(str(run.record.get("name", run.label)) for run in found))
    return render(", ".join(names), f"{len(found)} runs" if len(found) > 1 else found[0].label, sections)


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """A page of those sections that hold something; all texts in them are escaped, drawings are not."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
    )
    return environment.get_template("page.html").render(
        title=title,
        subtitle=subtitle,
        version=__version__,
        style=Markup((_HERE / "style.css").read_text(encoding="utf-8")),
        sections=[section for section in sections if _holds(section)],
    )


def _shown(value: object) -> object:
    """What the template is about to escape, without characters that are not to be seen."""
    return printable(value) if type(value) is str else value


def _holds(section: Section) -> bool:
    parts = (
        section.groups,
        section.tables,
        section.strips,
        section.images,
        section.drawings,
        section.plots,
        section.notes,
        section.texts,
    )
    return any(parts)


def _specs(runs: Sequence[RunFolder]) -> Section:
    texts = []
    for run in runs:
        file = run.path / SPEC
        if file.is_file():
            texts.append((run.label, file.read_text(encoding="utf-8", errors="replace")))
    return Section("Specs" if len(texts) > 1 else "Spec", texts=texts)
