"""Checkpoints: all that a training needs to go on as if it had never stopped."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pcgraph.errors import Fault, InputError
from pcgraph.files import whole_folder
from pcgraph.files.seals import check_file, check_record, seal, to_json
from pcgraph.files.tensors import save_tensors
from pcgraph.network import PCNetwork

WEIGHTS, STATE, PROGRESS = "weights.safetensors", "optimizer.pt", "progress.json"


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        epoch: The epoch at hand, from 0.
        batch: Batches done in it.
        step: Batches done since the training began.
        losses: Bytes of ``losses.csv``.
        losses_sha256: Their checksum.
        settings: What the training was asked for; another training cannot go on from here.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    losses: int = 0
    losses_sha256: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class Checkpoint:
    """A checkpoint as it was read.

    Attributes:
        progress: How far the training was.
        tensors: The weights, by name.
        state: State of the optimizer, and of the scaler of mixed precision.
        passed_over: Later checkpoints, which are damaged.
    """

    progress: Progress
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    passed_over: list[Path] = field(default_factory=list)


def moving_tensors(network: PCNetwork, parameters: Sequence[nn.Parameter]) -> dict[str, Tensor]:
    """What moves, by name: the parameters that learn, and the buffers of the predictors."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found: dict[str, Tensor] = {
        names.get(id(parameter), f"parameter.{place}"): parameter
        for place, parameter in enumerate(parameters)
    }
    return {**found, **dict(network.predictors.named_buffers(prefix="predictors"))}


def save_checkpoint(
    folder: Path, progress: Progress, tensors: Mapping[str, Tensor], state: Mapping[str, Any], keep: int
) -> None:
    """Write a checkpoint whole or not at all, and remove all but the last ``keep``.

    When this returns, it is on the disk, with the checksums of its files. Later ones, which are there if they
    were damaged and passed over, are removed.

    Raises:
        InputError: It cannot be written.
    """
    path = folder / f"step-{progress.step:09d}"
    with whole_folder(path) as partial:
        save_tensors(tensors, partial / WEIGHTS)
        try:
            torch.save(dict(state), partial / STATE)
        except RuntimeError as error:  # what torch makes of a full disk
            raise InputError(Fault(f"cannot be written: {error}", where=str(path))) from None
        record = seal(asdict(progress), partial, (WEIGHTS, STATE))
        (partial / PROGRESS).write_text(to_json(record), encoding="utf-8")
    found = _found(folder)
    own = found.index(path)
    for old in (*found[:own], *found[own + keep :]):
        shutil.rmtree(old)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The latest checkpoint that is as it was written; None where there is none.

    Cleans up what a kill left behind.

    Raises:
        InputError: There are checkpoints, and all are damaged.
    """
    if not folder.is_dir():
        return None
    for partial in folder.glob(".*"):
        shutil.rmtree(partial, ignore_errors=True)
    found = _found(folder)
    for place, path in enumerate(found):
        try:
            record = check_record(path / PROGRESS)
            for name in (WEIGHTS, STATE):
                check_file(path / name, PROGRESS)
            progress = Progress(**{one.name: record[one.name] for one in fields(Progress)})
            tensors = load_file(path / WEIGHTS)
            state = torch.load(path / STATE, map_location="cpu", weights_only=True)
            return Checkpoint(progress, tensors, state, found[:place])
        except Exception:  # damaged by a disk, or written by another version: an older one will do
            continue
    if found:
        raise InputError(Fault("no checkpoint here can be read", where=str(folder)))
    return None


def _found(folder: Path) -> list[Path]:
    """All checkpoints, the latest first."""
    return sorted(folder.glob("step-*"), reverse=True)
