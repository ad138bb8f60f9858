"""The run folder of an evaluation: begun at once, filled as results come in, finished at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pcgraph.datasets import ImageData
from pcgraph.evaluation.conditions import NoNoise, key
from pcgraph.evaluation.permuted import Permuted, permuted
from pcgraph.evaluation.store import ANSWER, DIVERGED, PARTS, TOTAL, Measured, Store
from pcgraph.evaluation.table import FILE as TABLE
from pcgraph.evaluation.table import Row, tabulate, write_table
from pcgraph.files import whole_file, write_text
from pcgraph.network import PCNetwork
from pcgraph.runs.record import FOLDERS, check_same, write_record
from pcgraph.spec import Spec, to_yaml
from pcgraph.spec.dump import pinned, rooted

KIND, SPEC = "evaluate", "spec.yaml"


def begin(folder: Path, spec: Spec, record: Mapping[str, Any], *, resume: bool) -> None:
    """Write what says that an evaluation was begun, or make sure that the one that was may go on.

    Args:
        folder: Where it writes.
        spec: What is evaluated.
        record: What `run.json` holds besides versions and time; its ``settings`` must stay the same.
        resume: Whether an evaluation is there to go on with.

    Raises:
        InputError: The folder is of something else, or the evaluation in it had other settings.
    """
    if resume:
        check_same(folder, KIND, record["settings"])
        return
    write_record(folder, spec, _unfinished(record))
    write_text(folder / SPEC, to_yaml(pinned(rooted(spec))))


def finish(
    folder: Path,
    spec: Spec,
    record: Mapping[str, Any],
    store: Store,
    measured: Measured,
    images: ImageData,
) -> list[Row]:
    """Write the table and what every image did; the record, last, says that all is there.

    Args:
        folder: Where it writes.
        spec: What was evaluated.
        record: What `run.json` holds besides versions and time.
        store: What every image did.
        measured: The results.
        images: The images.

    Returns:
        The rows of the table.
    """
    rows = tabulate(images.name, [measured], len(images.classes or ()), record["seed"])
    write_record(folder, spec, _unfinished(record))
    with whole_file(folder / TABLE) as partial:
        write_table(rows, partial)
    write_text(folder / SPEC, to_yaml(rooted(spec)))
    store.finish(measured)
    full = {"kind": KIND, **record, "conditions": list(measured), "finished": True, FOLDERS: [PARTS]}
    write_record(folder, spec, full, [TABLE, TOTAL, SPEC])
    return rows


def diverged(measured: Measured) -> dict[str, dict[str, int]]:
    """By condition whose states did not all stay finite: how many images, and the first such step."""
    found = {}
    for condition, quantities in measured.items():
        if DIVERGED in quantities:
            lost = quantities[DIVERGED].bool()
            first = int(lost.any(dim=1).byte().argmax())
            found[condition] = {"images": int(lost.any(dim=0).sum()), "step": first}
    return found


def permuted_labels(network: PCNetwork, measured: Measured, images: ImageData) -> Permuted | None:
    """Whether the labels look permuted, by the plain network's answers to the clean images."""
    clean = measured[key(NoNoise())]
    backbone = network.spec.backbone
    if ANSWER not in clean or not images.labelled or backbone is None or backbone.weights is None:
        return None
    labels = torch.tensor([images.label(place) for place in clean["index"].tolist()])
    return permuted(clean[ANSWER][0], labels)


def _unfinished(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": KIND, **record, "finished": False, FOLDERS: [PARTS]}
