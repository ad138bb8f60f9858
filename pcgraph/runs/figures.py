"""Figures, which are drawn when the numbers are on the disk: whatever happens to them, those are kept."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pcgraph.errors import Fault, InputError
from pcgraph.files import whole_file
from pcgraph.runs.record import add_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as the suffix of ``path`` says; the same figure gives the same file."""
    import matplotlib

    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
    with matplotlib.rc_context({"svg.hashsalt": "pcgraph"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box is drawn in its place
        lay_out(figure)
        figure.savefig(path, dpi=160, metadata=metadata)


def lay_out(figure: Figure) -> None:
    """Lay a figure out for good; else matplotlib does so each time it is saved, and draws it twice then."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def save_figures(folder: Path, figures: Mapping[str, Figure], suffixes: Sequence[str]) -> None:
    """Write each figure into a run folder, in a file for each suffix, and list them in its record."""
    names = [f"{name}{suffix}" for name in figures for suffix in suffixes]
    for name in names:
        with whole_file(folder / name) as partial:
            save_figure(figures[Path(name).stem], partial)
    add_files(folder, names)


@contextmanager
def numbers_kept(folder: Path, what: str) -> Iterator[None]:
    """Say of anything that goes wrong in the block that the numbers are kept.

    Args:
        folder: Where they are.
        what: What is being made of them: ``the figures``.

    Raises:
        InputError: Something went wrong.
    """
    try:
        yield
    except Exception as error:  # whatever a library for drawing, or the disk, has to say
        reason = str(error).partition("\n")[0] or type(error).__name__
        hint = "The numbers are complete, and are kept."
        raise InputError(
            Fault(f"{what} could not be made: {reason}", hint=hint, where=str(folder))
        ) from error
