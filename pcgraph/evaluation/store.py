"""What was measured so far, image by image, in memory and on disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pcgraph.errors import Fault, InputError
from pcgraph.evaluation.conditions import CLEAN
from pcgraph.files.tensors import load_sealed, save_tensors

PARTS = "parts"
TOTAL = "images.safetensors"
BROKEN = "broken"
"""The name under which images that cannot be read are noted."""
ANSWER = "answer"
"""The quantity that says which class a clean image was taken for, at each step."""
DIVERGED = "diverged"
"""The quantity that says where an image has no answer."""

Measured = dict[str, dict[str, Tensor]]
"""By condition and quantity, (steps + 1, images); besides ``index``, (images,), the images' places."""


class Store:
    """Results of batches and conditions as they come in.

    On disk there is one file a batch, written anew after each condition, so that a process that is killed
    loses no more than one condition of one batch.

    Args:
        folder: The run folder; None keeps everything in memory.

    Attributes:
        damaged: Files that could not be used; what was in them is measured again.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._parts: dict[str, dict[str, Tensor]] = {}
        self._done: dict[str, set[int]] = {}
        self.damaged: list[Path] = []

    def read(self) -> None:
        """Take up what earlier processes have written, and is whole."""
        assert self.folder is not None
        files = [self.folder / TOTAL, *sorted((self.folder / PARTS).glob("*.safetensors"))]
        for file in files:
            if file.name.startswith("."):  # what a killed process was writing
                continue
            if file.is_file():
                try:
                    self._parts[file.stem] = load_sealed(file)
                except InputError:
                    self.damaged.append(file)
        for part in self._parts.values():
            for name, indices in _indices(part):
                self._done.setdefault(name, set()).update(indices.tolist())

    def missing(self, conditions: Iterable[str], images: Iterable[int]) -> bool:
        """Whether some of these images have not been through one of these conditions."""
        wanted = set(images) - self._done.get(BROKEN, set())
        return any(not self._done.get(name, set()).issuperset(wanted) for name in conditions)

    def skip(self, part: str, images: Sequence[int]) -> None:
        """Note images that cannot be read."""
        if images:
            self.add(part, BROKEN, torch.tensor(images), {})

    def add(self, part: str, condition: str, indices: Tensor, measured: Mapping[str, Tensor]) -> None:
        """Keep what was measured of some images.

        Args:
            part: Name of the file that it goes to; one process alone writes it.
            condition: See `conditions.key`.
            indices: (batch,) the images' places.
            measured: By quantity, (steps + 1, batch).
        """
        rows = self._parts.setdefault(part, {})
        rows.update({f"{condition}/{quantity}": values for quantity, values in measured.items()})
        rows[f"{condition}/index"] = indices.clone()  # a tensor cannot be in a file twice
        self._done.setdefault(condition, set()).update(indices.tolist())
        if self.folder is not None:
            (self.folder / PARTS).mkdir(exist_ok=True)
            save_tensors(rows, self.folder / PARTS / f"{part}.safetensors", sealed=True)

    def collect(self, images: int, first: Sequence[str]) -> Measured:
        """Everything, with the images of each condition in their order.

        Args:
            images: How many there are, broken ones included.
            first: Conditions to begin with; others that are kept here follow.

        Raises:
            InputError: Some are missing, as when processes do not share the run folder.
        """
        parts: dict[str, list[dict[str, Tensor]]] = {}
        for part in self._parts.values():
            for condition, quantities in by_condition(part).items():
                parts.setdefault(condition, []).append(quantities)
        expected = images - len(self._done.get(BROKEN, set()))
        found: Measured = {}
        for condition in dict.fromkeys([*first, *sorted(parts, key=_order)]):
            if condition == BROKEN:
                continue
            several = parts.get(condition, [])
            indices = np.concatenate([[], *[one["index"].numpy() for one in several]])
            places = np.unique(indices, return_index=True)[1]
            if len(places) != expected:
                hint = "All processes have to write to the same run folder."
                message = f"{condition}: results of {len(places)} of {expected} images"
                raise InputError(Fault(message, hint=hint, where=str(self.folder or "")))
            order = torch.from_numpy(places)
            found[condition] = {
                quantity: torch.cat([_of(one, quantity) for one in several], dim=-1)[..., order].contiguous()
                for quantity in dict.fromkeys(name for one in several for name in one)
            }
        if not expected:
            self._discard()  # so that nothing is left of it
            raise InputError(Fault("not one image can be read", where=str(self.folder or "")))
        return found

    @property
    def broken(self) -> int:
        """How many images could not be read."""
        return len(self._done.get(BROKEN, set()))

    def finish(self, measured: Measured) -> None:
        """Write everything as one file, and remove the parts."""
        if self.folder is None:
            return
        save_tensors(
            {f"{name}/{what}": values for name, rows in measured.items() for what, values in rows.items()},
            self.folder / TOTAL,
            sealed=True,
        )
        self._discard()

    def _discard(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder / PARTS, ignore_errors=True)


def read_measured(folder: Path) -> Measured:
    """What a finished evaluation measured of every image.

    Raises:
        InputError: The folder holds none, or the file is damaged.
    """
    file = folder / TOTAL
    if not file.is_file():
        hint = "Finish it with --resume." if (folder / PARTS).is_dir() else ""
        raise InputError(Fault(f"holds no finished evaluation ('{TOTAL}')", hint=hint, where=str(folder)))
    found = by_condition(load_sealed(file))
    return {name: found[name] for name in sorted(found, key=_order) if name != BROKEN}


def by_condition(tensors: Mapping[str, Tensor]) -> Measured:
    """Tensors named ``CONDITION/QUANTITY``, as nested dictionaries."""
    found: Measured = {}
    for name, tensor in tensors.items():
        condition, _, quantity = name.rpartition("/")
        found.setdefault(condition, {})[quantity] = tensor
    return found


def _of(measured: Mapping[str, Tensor], quantity: str) -> Tensor:
    """A quantity; of images that all have answers it is not said that none of them diverged.

    Older versions did not keep the answers.
    """
    if quantity == ANSWER not in measured:
        return torch.full_like(measured["agree"], -1, dtype=torch.int32)
    return torch.zeros_like(measured["agree"]) if quantity == DIVERGED not in measured else measured[quantity]


def _order(name: str) -> tuple[bool, str, float]:
    """Sorts conditions by noise and level, the clean images first; a file does not keep their order."""
    noise, _, level = name.rpartition(":")
    return noise != CLEAN, noise, float(level) if noise else 0.0


def _indices(part: Mapping[str, Tensor]) -> Iterable[tuple[str, Tensor]]:
    return [(name.removesuffix("/index"), t) for name, t in part.items() if name.endswith("/index")]
