"""Compiled functions that several threads compute side by side.

torch's own call of a package holds Python's lock. The library in it has an interface in C, too
(``interface.h`` of AOTInductor), and what `ctypes` calls there runs without the lock.
"""

from __future__ import annotations

import ctypes
import tempfile
import time
import weakref
import zipfile
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from pcgraph.simulation.operations import UnfitError
from pcgraph.simulation.packages import Package

_Result = TypeVar("_Result")
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)


class Unlocked:
    """The function of a package, which may run in several threads at once.

    Args:
        package: On a processor.
        threads: How many there are.

    Raises:
        UnfitError: It needs what only torch's own call has.
        Exception: Whatever the system raises where the library cannot be loaded.
    """

    def __init__(self, package: Package, threads: int) -> None:
        library, handle, results = _library(package.path), ctypes.c_void_p(), ctypes.c_size_t()
        _check(
            library.AOTInductorModelContainerCreateWithDevice(
                ctypes.byref(handle), ctypes.c_size_t(threads), b"cpu", None
            )
        )
        weakref.finalize(self, library.AOTInductorModelContainerDelete, handle).atexit = False
        _check(library.AOTInductorModelContainerGetNumOutputs(handle, ctypes.byref(results)))
        self._library, self._handle, self._results = library, handle, results.value
        self._lent = package.lent

    def __call__(self, *tensors: Tensor) -> list[Tensor]:
        """From the tensors of the arguments to those of the results."""
        aoti = torch._C._aoti
        pointers = aoti.unsafe_alloc_void_ptrs_from_tensors([*tensors, *self._lent])
        taken = [_pointer(one, None) for one in pointers]
        arguments, results = (ctypes.c_void_p * len(taken))(*taken), (ctypes.c_void_p * self._results)()
        sizes = ctypes.c_size_t(len(taken)), ctypes.c_size_t(self._results)
        run = self._library.AOTInductorModelContainerRun
        _check(run(self._handle, arguments, sizes[0], results, sizes[1], None, None))
        return list(
            aoti.alloc_tensors_by_stealing_from_void_ptrs([_capsule(one, None, None) for one in results])
        )


def together(calls: Sequence[Callable[[], _Result]]) -> list[_Result]:
    """The results of some calls; each is made by a thread of its own, or here if none has begun it in time.

    So a thread that waits for its core holds nobody up before it has begun. Their operations use one thread.
    """
    others = [_threads(len(calls) - 1).submit(_on_one_thread, call) for call in calls[1:]]
    found = {0: calls[0]()}
    for at, other in reversed(list(enumerate(others, 1))):
        found[at] = calls[at]() if other.cancel() else other.result()
    return [found[at] for at in range(len(calls))]


class Team:
    """Makes calls `together`, or one after the other where that took less time lately, as on busy cores.

    The results do not depend on it. Now and then the other way is taken, to know how long that takes by now.
    """

    OTHER = 100
    """Of so many times one is in the other way."""
    LATELY = 10
    """How many times of each way are remembered."""

    def __init__(self) -> None:
        self._seconds = {way: deque[float](maxlen=self.LATELY) for way in (True, False)}
        self._times = 0

    def __call__(self, calls: Sequence[Callable[[], _Result]]) -> list[_Result]:
        """The results, in order."""
        way, began = self._way(), time.perf_counter()
        found = together(calls) if way else [call() for call in calls]
        self._seconds[way].append(time.perf_counter() - began)
        return found

    def _way(self) -> bool:
        """Whether they are made together."""
        self._times += 1
        if min(map(len, self._seconds.values())) < self.LATELY:
            return self._times % 2 == 1
        # without the longest, which may be a pause, or the first
        together, alone = (sum(seconds) - max(seconds) for seconds in self._seconds.values())
        return (together < alone) != (self._times % self.OTHER == 0)


def _on_one_thread(call: Callable[[], _Result]) -> _Result:
    torch.set_num_threads(1)  # a new thread would begin with as many as there are cores
    return call()


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "pcgraph")


@cache
def _library(path: Path) -> ctypes.CDLL:
    """The library in a package."""
    with zipfile.ZipFile(path) as package, tempfile.TemporaryDirectory(prefix="pcgraph-") as folder:
        names = package.namelist()
        if any(name.endswith(".json") and not name.endswith("_metadata.json") for name in names):
            raise UnfitError("an operation is called through torch's dispatcher")
        (library,) = (name for name in names if name.endswith(".so"))
        return ctypes.CDLL(package.extract(library, folder))


def _check(code: int) -> None:
    if code:
        raise RuntimeError("a compiled function failed; what it said is above")
