"""How much memory a run takes: measured on one image and on two, and put down in bytes.

What is counted are the tensors that are alive at once, and beside each convolution a copy of what it reads
and writes, since libraries rearrange these. The weights that are there anyway are not counted.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pcgraph.errors import Fault, InputError

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
SIZE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]+)\s*")
COPYING = {torch.ops.aten.convolution, torch.ops.aten.convolution_backward}
"""Operations whose library may work on copies of its own."""
SHARE = 0.8
"""Of a limit, what is planned with: an allocator keeps some of what was given back to it."""


def parse_memory(text: str | int) -> int:
    """Read ``2GB``, ``500 MB`` or ``1.5GiB``; a whole number is bytes.

    Raises:
        InputError: It is no amount of memory.
    """
    if isinstance(text, int) and text > 0:
        return text
    found = SIZE.fullmatch(text) if isinstance(text, str) else None
    unit = UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None or float(found[1]) * unit < 1:
        hint = f"A number and a unit: {', '.join(UNITS)}."
        raise InputError(Fault(f"memory: expected an amount such as '2GB', got {text!r}", hint=hint))
    return int(float(found[1]) * unit)


def shown(size: float) -> str:
    """An amount of memory to read: ``1.5 GB``."""
    for unit in ("GB", "MB", "KB"):
        if size >= UNITS[unit]:
            return f"{size / UNITS[unit]:.3g} {unit}"
    return f"{size:.0f} bytes"


class MemoryMeter(TorchDispatchMode):
    """Within it, what tensors are made and given up is counted.

    Attributes:
        alive: Bytes of the tensors that were made within it and still exist.
        peak: The most that these and the copies of a library were at once.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {tensor.untyped_storage()._cdata for tensor in _tensors((args, kwargs))}
        for tensor in _tensors(result):
            if tensor.untyped_storage()._cdata not in given:  # else a view
                self._count(tensor.untyped_storage())
        copies = 0
        if func.overloadpacket in COPYING:
            copies = sum(tensor.nbytes for tensor in _tensors((args, result)))
        self.peak = max(self.peak, self.alive + copies)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place in self._known:
            return
        self._known.add(place)
        self.alive += size

        def gone() -> None:
            self._known.discard(place)
            self.alive -= size

        weakref.finalize(storage, gone)


def _tensors(values: Any) -> Iterator[Tensor]:
    return (one for one in tree_leaves(values) if isinstance(one, Tensor))


@dataclass(frozen=True)
class Cost:
    """Bytes that a run takes.

    Attributes:
        fixed: Whatever the number of images.
        image: For each image that is computed at once.
        result: For each image of the whole batch: what is recorded in memory, and the last state.
    """

    fixed: int
    image: int
    result: int

    def images(self, batch: int, limit: int) -> int:
        """How many images may be computed at once.

        Args:
            batch: Images in all.
            limit: Bytes.

        Raises:
            InputError: Not even one.
        """
        results = batch * self.result
        number = (SHARE * limit - self.fixed - results) // self.image
        if number < 1:
            need = (self.fixed + results + self.image) / SHARE
            parts = [f"{shown(self.fixed + self.image)} for one image at a time"]
            parts += [f"{shown(results)} for the results of {batch}"]
            hint = "Give more, record less, or record on a tape (`to`)."
            needed = f"{' and '.join(parts)} take {shown(need)}, a fifth of it for the allocator"
            raise InputError(Fault(f"memory: {shown(limit)} are too little: {needed}", hint=hint))
        return int(min(number, batch))


def measure_cost(run: Callable[[int, int], int], steps: int, batch: int) -> Cost:
    """Work out what a run takes from short ones on one image and on two.

    Args:
        run: Makes a run of so many images and steps, and gives the bytes of its results.
        steps: Of the run in question.
        batch: Its images.
    """

    def peak(images: int, made: int) -> tuple[int, int]:
        with MemoryMeter() as meter:
            result = run(images, made)
        return meter.peak, result

    short = min(steps, 2)
    one, result = peak(1, short)
    longer, more = peak(1, short + 1) if steps > short else (one, result)
    two = peak(2, short)[0] if batch > 1 else 2 * one
    image = max(two - one, 1)
    each_step = max(longer - one, 0)
    return Cost(
        fixed=max(one - image, 0),
        image=image + each_step * (steps - short),
        result=result + (more - result) * (steps - short),
    )
