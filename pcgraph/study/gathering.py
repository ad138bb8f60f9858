"""Faults of a file that are told together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pcgraph.errors import Fault, SpecError
from pcgraph.study.file import Study


@contextmanager
def gathering(faults: list[Fault]) -> Iterator[None]:
    """Go on after a block whose faults are kept for later."""
    try:
        yield
    except SpecError as error:
        faults.extend(error.faults)


def refuse_all(study: Study, faults: Iterable[Fault]) -> None:
    """Refuse a study for all that was found, in the order of its file.

    Raises:
        SpecError: There are faults.
    """
    once = {(fault.path[:3], fault.message): fault for fault in reversed(list(faults))}
    if once:
        raise SpecError(study.in_order(map(study.located, once.values())))
