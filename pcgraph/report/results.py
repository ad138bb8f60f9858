"""What a simulation leaves in its run folder: all that is needed to look at it again, and to repeat it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pcgraph.display.safe import csv_cell
from pcgraph.files import write_text
from pcgraph.files.tensors import save_tensors
from pcgraph.report.trajectory import Trajectory
from pcgraph.runs.record import write_record
from pcgraph.simulation.tape import Tape
from pcgraph.spec import Spec, to_yaml
from pcgraph.spec.dump import pinned, rooted

SPEC, METRICS, TENSORS = "spec.yaml", "metrics.csv", "tensors.safetensors"
COLUMNS = ("image", "step", "quantity", "name", "value")


def write_run_folder(
    folder: Path,
    spec: Spec,
    record: Mapping[str, Any],
    terms: Sequence[str],
    labels: Sequence[str],
    trajectories: Sequence[Trajectory],
    tensors: Mapping[str, Tensor] | Tape,
) -> None:
    """Write the numbers: ``spec.yaml``, ``metrics.csv``, ``tensors.safetensors`` and, last, ``run.json``.

    Args:
        folder: Where to; it is there.
        spec: The spec that was run.
        record: What `run.json` holds besides versions and time.
        terms: Names of the error terms, in the order of the trajectories' energies.
        labels: Names of the classes.
        trajectories: What the images did.
        tensors: What was recorded, by ``quantity:name``; each (steps + 1, images, *shape), in memory or on a
            tape.
    """
    write_text(folder / SPEC, to_yaml(pinned(rooted(spec))))
    with (folder / METRICS).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for one in trajectories:
            writer.writerows(_rows(one, terms, labels))
    if isinstance(tensors, Tape):
        tensors.save(folder / TENSORS)
    elif tensors:
        save_tensors(tensors, folder / TENSORS)
    write_record(folder, spec, record, [n for n in (SPEC, METRICS, TENSORS) if (folder / n).exists()])


def _rows(
    one: Trajectory, terms: Sequence[str], labels: Sequence[str]
) -> list[tuple[str, int, str, str, str]]:
    rows = []
    image, names = csv_cell(one.image), [csv_cell(label) for label in labels]
    for step in range(one.steps + 1):
        for index, probability in zip(one.classes, one.probability, strict=True):
            rows.append((image, step, "probability", names[index], f"{probability[step]:.9g}"))
        for term, energy in zip(terms, one.energy, strict=True):
            rows.append((image, step, "energy", csv_cell(term), f"{energy[step]:.9g}"))
    return rows
