"""Where the results of a command go, and what says how they came about."""

from __future__ import annotations

import platform
import sys
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pcgraph import __version__
from pcgraph.errors import Fault, InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECORD = "run.json"


def new_run_folder(name: str, out: Path | None, force: bool) -> Path:
    """Where a run goes: ``out``, or ``runs/NAME-TIMESTAMP``.

    Raises:
        InputError: ``out`` is there and holds something; with ``force``, something else than a run.
    """
    if out is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        path = Path("runs") / f"{name}-{stamp}"
        number = 2
        while path.exists():
            path = path.with_name(f"{name}-{stamp}-{number}")
            number += 1
        return path
    nearest = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise InputError(Fault("is a file, expected a folder for the run", where=str(nearest)))
    if out.is_dir() and any(out.iterdir()):
        if not force:
            raise InputError(
                Fault("exists already", hint="Choose another folder, or --force.", where=str(out))
            )
        if not (out / RECORD).is_file():
            hint = "Choose another folder; --force replaces nothing but runs."
            raise InputError(Fault(f"is no run folder: it holds no '{RECORD}'", hint=hint, where=str(out)))
    return out


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as the suffix of ``path`` says; the same figure gives the same file."""
    import matplotlib

    metadata = {"Date": None} if path.suffix == ".svg" else None
    with matplotlib.rc_context({"svg.hashsalt": "pcgraph"}):
        figure.savefig(path, dpi=160, metadata=metadata)


def versions() -> dict[str, str]:
    """Versions of pcgraph, of Python, and of the libraries that are in use."""
    found = {"pcgraph": __version__, "python": platform.python_version(), "torch": str(torch.__version__)}
    for name in ("torchvision", "timm", "numpy"):
        if name in sys.modules:
            found[name] = metadata.version(name)
    return found
