"""Cells: the pieces of work of a study, each a pure function of its content, and named by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from pcgraph.files.seals import digest

FORMAT = 3
"""Changed whenever the same content would give other results."""


CHANNELS_LAST = {"layout": "channels_last"}
"""What the content of a cell says whose network's maps lie so; see `pcgraph.study.layouts`."""


@dataclass(frozen=True)
class Cell:
    """One piece of work.

    Attributes:
        kind: ``train``, ``tune`` or ``measure``.
        content: All that the result depends on besides ``needs``: plain values.
        needs: The cells whose results it starts from.
        known: What these are to it, where it takes only a part of them; left out: their names.
    """

    kind: str
    content: Mapping[str, Any]
    needs: tuple[Cell, ...] = field(default=())
    known: tuple[str, ...] = field(default=())

    @cached_property
    def key(self) -> str:
        """Its name; see `key_of`."""
        return key_of(self.kind, self.content, self.origins)

    @property
    def origins(self) -> list[str]:
        """What its name says of the cells that it needs."""
        return list(self.known or (one.key for one in self.needs))


def key_of(kind: str, content: Mapping[str, Any], needs: Sequence[str]) -> str:
    """The name of a cell: a digest of kind, content and what it needs, and of torch's version.

    Where a file lies is no part of it, if its digest is.
    """
    values = {"kind": kind, "content": _without_places(content), "needs": list(needs)}
    return digest({"format": FORMAT, "torch": torch.__version__, **values})[:32]


def in_order(cells: Iterable[Cell]) -> list[Cell]:
    """Every cell once, with all that it needs, each after what it needs."""
    found: dict[str, Cell] = {}

    def add(cell: Cell) -> None:
        if cell.key not in found:
            for one in cell.needs:
                add(one)
            found[cell.key] = cell

    for cell in cells:
        add(cell)
    return list(found.values())


def _without_places(value: Any) -> Any:
    """Plain values in which a file with a digest is told by that alone."""
    if isinstance(value, Mapping):
        known = value.get("sha256") is not None and "file" in value
        return {name: _without_places(one) for name, one in value.items() if not (known and name == "file")}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_places(one) for one in value]
    return value
