"""The run folder: everything that is needed to look at a run again, and to repeat it."""

from __future__ import annotations

import csv
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from pcgraph import __version__
from pcgraph.errors import Fault, InputError
from pcgraph.files import whole_folder
from pcgraph.report.trajectory import Trajectory
from pcgraph.spec import Spec, to_yaml
from pcgraph.spec.dump import rooted as rooted
from pcgraph.tape import Tape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECORD = "run.json"
TENSORS = "tensors.safetensors"
COLUMNS = ("image", "step", "quantity", "name", "value")


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


def write_run_folder(
    path: Path,
    spec: Spec,
    record: Mapping[str, Any],
    terms: Sequence[str],
    labels: Sequence[str],
    trajectories: Sequence[Trajectory],
    tensors: Mapping[str, Tensor] | Tape,
    figures: Mapping[str, Figure],
) -> None:
    """Write ``spec.yaml``, ``run.json``, ``metrics.csv``, ``tensors.safetensors`` and the figures.

    Args:
        path: The folder; it appears when everything is written.
        spec: The spec that was run.
        record: What `run.json` holds besides versions and time.
        terms: Names of the error terms, in the order of the trajectories' energies.
        labels: Names of the classes.
        trajectories: What the images did.
        tensors: What was recorded, by ``quantity:name``; each (steps + 1, images, *shape), in memory or on a
            tape.
        figures: Figures by name; each becomes a ``.png`` and a ``.svg``.
    """
    with whole_folder(path) as folder:
        (folder / "spec.yaml").write_text(to_yaml(rooted(spec)), encoding="utf-8")
        time = datetime.now().astimezone().isoformat(timespec="seconds")
        values = spec.model_dump(mode="json", exclude={"extends"})  # spec.yaml leaves out what is default
        full = {**record, "versions": versions(), "time": time, "spec": values}
        (folder / RECORD).write_text(json.dumps(full, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        with (folder / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for one in trajectories:
                writer.writerows(_rows(one, terms, labels))
        if isinstance(tensors, Tape):
            tensors.save(folder / TENSORS)
        elif tensors:
            save_file({name: value.contiguous() for name, value in tensors.items()}, folder / TENSORS)
        for name, figure in figures.items():
            for suffix in (".png", ".svg"):
                save_figure(figure, folder / f"{name}{suffix}")


def _rows(
    one: Trajectory, terms: Sequence[str], labels: Sequence[str]
) -> list[tuple[str, int, str, str, str]]:
    rows = []
    for step in range(one.steps + 1):
        for index, probability in zip(one.classes, one.probability, strict=True):
            rows.append((one.image, step, "probability", labels[index], f"{probability[step]:.9g}"))
        for term, energy in zip(terms, one.energy, strict=True):
            rows.append((one.image, step, "energy", term, f"{energy[step]:.9g}"))
    return rows


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
