"""What a simulation leaves in its run folder: all that is needed to look at it again, and to repeat it."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file
from torch import Tensor

from pcgraph.files import whole_folder
from pcgraph.report.trajectory import Trajectory
from pcgraph.runs.folder import RECORD, save_figure, versions
from pcgraph.simulation.tape import Tape
from pcgraph.spec import Spec, to_yaml
from pcgraph.spec.dump import pinned, rooted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TENSORS = "tensors.safetensors"
COLUMNS = ("image", "step", "quantity", "name", "value")


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
        (folder / "spec.yaml").write_text(to_yaml(pinned(rooted(spec))), encoding="utf-8")
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
