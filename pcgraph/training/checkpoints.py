"""Checkpoints: all that a training needs to go on as if it had never stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pcgraph.errors import Fault, InputError
from pcgraph.files import whole_folder

WEIGHTS, STATE, PROGRESS = "weights.safetensors", "optimizer.pt", "progress.json"


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        epoch: The epoch at hand, from 0.
        batch: Batches done in it.
        step: Batches done since the training began.
        losses: Bytes of ``losses.csv``.
        settings: What the training was asked for; another training cannot go on from here.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    losses: int = 0
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class Checkpoint:
    """A checkpoint as it was read.

    Attributes:
        progress: How far the training was.
        tensors: The weights, by name.
        state: State of the optimizer, and of the scaler of mixed precision.
    """

    progress: Progress
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(
    folder: Path, progress: Progress, tensors: Mapping[str, Tensor], state: Mapping[str, Any], keep: int
) -> None:
    """Write a checkpoint whole or not at all, and remove all but the last ``keep``."""
    with whole_folder(folder / f"step-{progress.step:09d}") as partial:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, partial / WEIGHTS)
        torch.save(dict(state), partial / STATE)
        (partial / PROGRESS).write_text(json.dumps(asdict(progress), indent=1) + "\n", encoding="utf-8")
    for old in _found(folder)[keep:]:
        shutil.rmtree(old)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The latest checkpoint that can be read; None where there is none. Cleans up what a kill left behind.

    Raises:
        InputError: There are checkpoints, and none can be read.
    """
    if not folder.is_dir():
        return None
    for partial in folder.glob(".*"):
        shutil.rmtree(partial, ignore_errors=True)
    found = _found(folder)
    for path in found:
        try:
            progress = Progress(**json.loads((path / PROGRESS).read_text(encoding="utf-8")))
            tensors = load_file(path / WEIGHTS)
            state = torch.load(path / STATE, map_location="cpu", weights_only=True)
            return Checkpoint(progress, tensors, state)
        except Exception:  # torn by a machine that lost its power: an older one will do
            continue
    if found:
        raise InputError(Fault("no checkpoint here can be read", where=str(folder)))
    return None


def _found(folder: Path) -> list[Path]:
    """All checkpoints, the latest first."""
    return sorted(folder.glob("step-*"), reverse=True)
