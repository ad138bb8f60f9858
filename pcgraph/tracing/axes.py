"""The axes that the dimensions of a tensor are made of, as reshapes, slices and joins carry them along."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["batch", "features", "place", "mixed"]

MADE = 2
"""How much a role weighs that a layer gives which has to do with neighbours or channels."""
SHARED = 1
"""The same of a layer that acts on one dimension and is shared by all others, as a linear layer is."""


@dataclass(eq=False)
class Axis:
    """One axis of some tensor.

    Attributes:
        size: Its length.
        role: What it is: places of a grid, or features; ``mixed`` where two operations disagree; None where
            what makes it does not say.
        rank: Of places: which axis of the grid.
        weight: `MADE` or `SHARED`; 0 without a role.
        constant: Whether it is a parameter's, and no image's.
        inside: Of tokens with class tokens: how many come before, the dimension of the others, and how many
            come after.
        read_as: What operations take its parts for, by the stride and the size of the part.
        source: The axis that it is a cut, padded or strided form of, whose readers are its readers too.
    """

    size: int
    role: Role | None = None
    rank: int = 0
    weight: int = 0
    constant: bool = False
    inside: tuple[int, Dim, int] | None = None
    read_as: dict[tuple[int, int], set[tuple[int, Role, int]]] = field(default_factory=dict)
    source: Axis | None = None


@dataclass(frozen=True)
class Atom:
    """A part of an axis: of the place i along the axis, ``i // stride % size``."""

    axis: Axis
    stride: int
    size: int

    @property
    def whole(self) -> bool:
        """Whether it is all of its axis."""
        return self.size == self.axis.size

    @property
    def coarse(self) -> bool:
        """Whether it goes over the full length of an axis of places, in steps."""
        return self.axis.role != "place" or self.stride * self.size == self.axis.size

    @property
    def meaning(self) -> tuple[int, Role | None, int]:
        """Weight, role and rank: what made the axis says it, or else whoever reads this part."""
        if self.axis.role is not None and (self.whole or self.axis.role != "features"):
            return self.axis.weight, self.axis.role, self.axis.rank
        found = self.axis.read_as.get((self.stride, self.size), set())
        if found:
            most = max(weight for weight, _, _ in found)
            said = sorted({(role, rank) for weight, role, rank in found if weight == most})
            if len({role for role, _ in said}) > 1:
                return most, "mixed", 0
            return most, said[0][0], said[0][1]
        return self.axis.weight, self.axis.role, self.axis.rank


Dim = tuple[Atom, ...]
"""What one dimension is made of, the part that changes slowest first. Empty: a dimension of size 1."""
Dims = tuple[Dim, ...]


def axis(size: int, role: Role | None = None, rank: int = 0, weight: int = 0, constant: bool = False) -> Dim:
    """A dimension that is a new axis."""
    return whole(Axis(size, role, rank, weight if role else 0, constant))


def whole(one: Axis) -> Dim:
    """A dimension that is this axis."""
    return (Atom(one, 1, one.size),)


def unknown(shape: Iterable[int], constant: bool = False) -> Dims:
    """Dimensions of which nothing is known."""
    return tuple(axis(size, constant=constant) for size in shape)


def like(dim: Dim, size: int) -> Dim:
    """A new axis that means what ``dim`` means: a part of it, or more of the same.

    Of a grid with several axes in one dimension, it is places whose neighbours are not known any more.
    """
    weight, role, rank = meaning(dim)
    if role == "place" and len(dim) > 1:
        weight, role, rank = 0, None, 0
    made = Axis(size, role, rank, weight, bool(dim) and all(atom.axis.constant for atom in dim))
    made.source = dim[0].axis if len(dim) == 1 and dim[0].whole else None
    return whole(made)


def meaning(dim: Dim) -> tuple[int, Role | None, int]:
    """Weight, role and rank of a dimension as a whole."""
    meanings = [atom.meaning for atom in dim]
    roles = {role for _, role, _ in meanings}
    if not meanings:
        return 0, None, 0
    if len(roles) > 1:
        return min(m[0] for m in meanings), "features" if "features" in roles else None, 0
    return min(m[0] for m in meanings), meanings[0][1], meanings[0][2]


def read_as(dim: Dim, role: Role, rank: int, weight: int) -> None:
    """Note on a dimension of one part what an operation takes it for."""
    if len(dim) == 1 and dim[0].axis.role != "batch":
        (atom,) = dim
        said = (weight, role, rank)
        atom.axis.read_as.setdefault((atom.stride, atom.size), set()).add(said)
        source = atom.axis.source if atom.whole else None
        while source is not None:
            source.read_as.setdefault((1, source.size), set()).add(said)
            source = source.source


def size_of(dim: Dim) -> int:
    """The size of a dimension."""
    return math.prod(atom.size for atom in dim)


def reshape(dims: Dims, shape: Sequence[int]) -> Dims:
    """The dimensions of a tensor that is read row by row in another shape."""
    parts = [atom for dim in dims for atom in dim]
    made: list[Dim] = []
    for size in shape:
        taken: list[Atom] = []
        while size_of(tuple(taken)) < size and parts:
            room = size // size_of(tuple(taken))
            if size % size_of(tuple(taken)):
                break
            first = parts.pop(0)
            if first.size <= room and room % first.size == 0:
                taken.append(first)
            elif first.size % room == 0:
                rest = first.size // room
                taken.append(Atom(first.axis, first.stride * rest, room))
                parts.insert(0, Atom(first.axis, first.stride, rest))
            else:
                break
        if size == 1 and parts and parts[0].size == 1:
            taken.append(parts.pop(0))
        if size_of(tuple(taken)) != size:  # the parts do not come apart there
            return unknown(shape)
        made.append(_merged(taken))
    return tuple(made)


def _merged(parts: Sequence[Atom]) -> Dim:
    """Parts of one axis that follow each other become one part again; parts of size 1 add nothing."""
    merged: list[Atom] = []
    for part in parts:
        last = merged[-1] if merged else None
        if last is not None and last.axis is part.axis and last.stride == part.stride * part.size:
            merged[-1] = Atom(part.axis, part.stride, last.size * part.size)
        elif last is not None and 1 in (last.size, part.size):
            merged[-1] = last if part.size == 1 else part
        else:
            merged.append(part)
    return tuple(merged)


def cut(dim: Dim, start: int, stop: int) -> Dim:
    """The places ``start`` to ``stop`` of a dimension; without its class tokens, it is the grid again."""
    if start == 0 and stop == size_of(dim):
        return dim
    inside = dim[0].axis.inside if len(dim) == 1 and dim[0].whole else None
    if inside is not None:
        before, places, _ = inside
        if (start, stop) == (before, before + size_of(places)):
            return places
        if stop <= before or start >= before + size_of(places):
            return axis(stop - start, constant=True)
        if start <= before and stop >= before + size_of(places):
            kept_after = stop - before - size_of(places)
            return with_class_tokens(before - start, places, kept_after)
    return like(dim, stop - start)


def with_class_tokens(before: int, places: Dim, after: int) -> Dim:
    """A dimension of class tokens and of ``places``."""
    if len(places) == 1 and places[0].whole and places[0].axis.inside is not None:
        inner_before, places, inner_after = places[0].axis.inside
        before, after = before + inner_before, after + inner_after
    weight, role, rank = meaning(places)
    total = before + size_of(places) + after
    one = Axis(total, role, rank, weight, inside=(before, places, after))
    one.source = places[0].axis if len(places) == 1 and places[0].whole else None
    return whole(one)


def joined(parts: Sequence[Dim], size: int) -> Dim:
    """The dimension along which tensors are put one after the other."""
    places = [i for i, part in enumerate(parts) if not _is_beside(part)]
    if len(places) == 1 and meaning(parts[places[0]])[1] != "features":
        (at,) = places
        before = sum(size_of(part) for part in parts[:at])
        return with_class_tokens(before, parts[at], size - before - size_of(parts[at]))
    meanings = [meaning(parts[place]) for place in places]
    roles = {role for _, role, _ in meanings}
    if "features" in roles and roles <= {"features", None}:  # whatever is put beside channels is channels
        return axis(size, "features", weight=max(weight for weight, _, _ in meanings))
    if len(roles) != 1 or any(len(parts[place]) > 1 for place in places):
        return axis(size)
    return axis(size, meanings[0][1], meanings[0][2], min(weight for weight, _, _ in meanings))


def _is_beside(part: Dim) -> bool:
    """Whether it is a constant, or one entry of no role: a class token, or the mean of all places."""
    return all(atom.axis.constant for atom in part) or (size_of(part) == 1 and meaning(part)[1] is None)


def agreed(parts: Sequence[Dim], size: int) -> Dim:
    """One dimension of what an operation makes of several tensors place by place.

    What weighs more says what it is: a grid of a convolution, and not the linear layer that mixed its places.
    Constants say nothing where a value that depends on the image does; nor does what means several things or
    is mixed, where another is one thing.
    """
    fitting = [part for part in parts if part and size_of(part) == size]
    data = [part for part in fitting if not all(atom.axis.constant for atom in part)]
    if not fitting:
        return axis(size) if size > 1 else ()
    candidates, unclear = data or fitting, {None, "mixed"}
    best = max(candidates, key=lambda part: (meaning(part)[0], meaning(part)[1] not in unclear))  # the first
    weight, role, _ = meaning(best)
    others = {meaning(part)[1] for part in candidates if meaning(part)[0] == weight} - unclear
    return axis(size, "mixed", weight=weight) if role is not None and len(others) > 1 else best
