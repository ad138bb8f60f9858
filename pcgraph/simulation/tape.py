"""Recorded tensors that go to disk as they come, so that a long run needs no more memory than a short one."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, overload

import torch
from safetensors import safe_open
from torch import Tensor

from pcgraph.errors import Fault, InputError
from pcgraph.files import naming, whole_file

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""What safetensors calls them."""


@dataclass
class _Reel:
    """One quantity: where its tensors are in the file of all, in the order in which they came."""

    file: IO[bytes]
    dtype: torch.dtype
    shape: tuple[int, ...]
    runs: list[list[int]] = field(default_factory=list)
    images: list[int] = field(default_factory=list)

    def read(self, run: int, step: int) -> bytes:
        """The bytes of one step; of a run that stopped early, those of its last."""
        offsets = self.runs[run]
        self.file.seek(offsets[min(step, len(offsets) - 1)])
        return self.file.read(self.images[run] * math.prod(self.shape) * self.dtype.itemsize)


class Tape:
    """A safetensors file that runs record on, step by step.

    What is recorded never is in memory for more than a step. The file appears when the ``with`` block ends
    without an error: its tensors are called ``values:e3`` (``output`` for the output) and have the shape
    (steps + 1, images, *shape), the images of several runs one after the other. Of a run that stopped early
    the last step is repeated.

    Args:
        path: The file to be; until it is there, the tensors are in a file without a name on the same disk.
        items: What goes on the tape, of what a run records: ``values``, ``values:e3``. Left out, all.

    Raises:
        InputError: There is no such folder.

    Example:
        >>> with Tape("run.safetensors") as tape:
        ...     run = scheduler.run(images, steps=1000, record=["values"], to=tape)
        >>> run.values["e3"][500]
    """

    def __init__(self, path: str | Path, items: Collection[str] | None = None) -> None:
        self.path = Path(path)
        self.items = None if items is None else set(items)
        self.saved: Path | None = None
        self._runs = -1
        self._reels: dict[str, _Reel] = {}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Tape:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self.saved is None:
                self.save(self.path)
        finally:
            self.close()

    def takes(self, quantity: str, name: str) -> bool:
        """Whether a quantity goes on the tape."""
        return self.items is None or bool(self.items & {quantity, f"{quantity}:{name}"})

    def begin(self) -> None:
        """A new run begins."""
        self._runs += 1

    def frames(self, key: str) -> Frames:
        """Where the present run's tensors of this name go, and are read from."""
        return Frames(self, key, [self._runs])

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all; what was recorded is read from it afterwards.

        A tape that nothing is on makes no file.

        Raises:
            InputError: There is no such folder.
        """
        if not self._reels:
            return
        if not path.parent.is_dir():
            raise InputError(Fault(f"there is no folder '{path.parent}'", where=str(path)))
        names = sorted(self._reels, key=lambda name: (-self._reels[name].dtype.itemsize, name))
        header: dict[str, object] = {}
        end = 0
        for name in names:
            reel = self._reels[name]
            shape = [max(map(len, reel.runs)), sum(reel.images), *reel.shape]
            begin, end = end, end + math.prod(shape) * reel.dtype.itemsize
            header[name] = {"dtype": DTYPES[reel.dtype], "shape": shape, "data_offsets": [begin, end]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with whole_file(path) as partial, partial.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in names:
                for chunk in _steps(self._reels[name]):
                    file.write(chunk)
        self.saved = path

    def close(self) -> None:
        """Remove what was recorded and not saved."""
        if self._file is not None:
            self._file.close()

    def add(self, key: str, run: int, tensor: Tensor) -> None:
        """The next step of a quantity; see `Frames`."""
        tensor = tensor.detach().contiguous().cpu()
        shape = tuple(tensor.shape[1:])
        if key not in self._reels:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115
            self._reels[key] = _Reel(self._file, tensor.dtype, shape)
        reel = self._reels[key]
        if (tensor.dtype, shape) != (reel.dtype, reel.shape):
            raise InputError(
                f"'{key}' was {reel.dtype} {reel.shape} on this tape, now {tensor.dtype} {shape}"
            )
        if len(reel.runs) <= run:
            if len(reel.runs) < run:
                raise InputError(f"'{key}' was not recorded in every run on this tape")
            reel.runs.append([])
            reel.images.append(len(tensor))
        reel.runs[run].append(reel.file.seek(0, 2))
        with naming(self.path):
            reel.file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)

    def count(self, key: str, run: int) -> int:
        """How many steps of a quantity there are."""
        reel = self._reels.get(key)
        return 0 if reel is None or len(reel.runs) <= run else len(reel.runs[run])

    def read(self, key: str, run: int, step: int) -> Tensor:
        """One step of a quantity, from the tape or from the file that it has become."""
        reel = self._reels[key]
        if self.saved is None:
            found = torch.frombuffer(bytearray(reel.read(run, step)), dtype=reel.dtype)
            return found.view(reel.images[run], *reel.shape)
        first = sum(reel.images[:run])
        with safe_open(self.saved, framework="pt") as file:
            tensor: Tensor = file.get_slice(key)[step, first : first + reel.images[run]]
            return tensor


class Frames(Sequence[Tensor]):
    """What was recorded of one quantity, step by step; each step is read when it is asked for."""

    def __init__(self, tape: Tape, key: str, runs: Sequence[int]) -> None:
        self._tape, self._key, self._runs = tape, key, runs

    @classmethod
    def side_by_side(cls, several: Sequence[Frames]) -> Frames:
        """The same quantity of several runs as one, the images one after the other."""
        first = several[0]
        return cls(first._tape, first._key, [run for frames in several for run in frames._runs])

    def __len__(self) -> int:
        return max(self._tape.count(self._key, run) for run in self._runs)

    @overload
    def __getitem__(self, step: int) -> Tensor: ...
    @overload
    def __getitem__(self, step: slice) -> list[Tensor]: ...
    def __getitem__(self, step: int | slice) -> Tensor | list[Tensor]:
        if isinstance(step, slice):
            return [self[one] for one in range(*step.indices(len(self)))]
        place = step + len(self) if step < 0 else step
        if not 0 <= place < len(self):
            raise IndexError(f"step {step} of {len(self) - 1}")
        return torch.cat([self._tape.read(self._key, run, place) for run in self._runs])

    def append(self, tensor: Tensor) -> None:
        """The next step."""
        self._tape.add(self._key, self._runs[-1], tensor)


def _steps(reel: _Reel) -> Iterator[bytes]:
    """The bytes of a quantity, step by step, the runs of each step one after the other."""
    for step in range(max(map(len, reel.runs))):
        for run in range(len(reel.runs)):
            yield reel.read(run, step)
