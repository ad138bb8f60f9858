"""Which places of a model a first spec takes for its nodes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pcgraph.tracing.table import Candidate, Table

MOST = 6
SHRINKS = 0.75  # a side that shrinks by less stays in its stage: a convolution without padding
_CARRIES = """
    permute transpose swapaxes reshape view contiguous flatten getitem to type_as pad roll dropout
    Permute Flatten Dropout Identity StochasticDepth DropPath
"""
# What only carries a value on: not worth a state of its own.
CARRIES = frozenset(_CARRIES.split())


def suggest_nodes(table: Table) -> dict[str, str]:
    """Pick nodes for a first spec, named ``e1``, ``e2``, ... in the order of execution.

    The last tensor of each stage of resolution, among those that every path passes; where the
    resolution does not change (vision transformers), outputs of blocks, spread evenly.
    """
    trunk = [row for row in table if row.trunk and row.shape is not None and row.op not in CARRIES]
    trunk = trunk or [row for row in table if row.shape is not None]
    picked = _by_resolution(table, trunk)
    if len(picked) < 2:
        blocks = _blocks(trunk)
        picked = blocks if len(blocks) > len(picked) else picked
    if len(picked) < 2:
        layers = _by_shape(trunk)
        picked = layers if len(layers) > len(picked) else picked
    return {f"e{index}": row.name for index, row in enumerate(_spread(picked, MOST), start=1)}


def _by_resolution(table: Table, trunk: Sequence[Candidate]) -> list[Candidate]:
    """The last trunk node of each resolution at which anything is learned."""
    stages: list[_Resolution] = []
    weights = 0
    for row in table:
        weights += row.parameters
        side = _side(row.shape or (), table.input_shape) if row in trunk else 0.0
        if side <= 1:
            continue
        if not stages or side <= SHRINKS * stages[-1].side:
            stages.append(_Resolution(side))
        stages[-1].rows.append(row)
        stages[-1].side = side
        stages[-1].weights += weights
        weights = 0
    pairs = itertools.zip_longest(stages, (stage.rows[0].name for stage in stages[1:]))
    return [stage.last_before(following) for stage, following in pairs if stage.weights]


@dataclass
class _Resolution:
    """A run of trunk nodes of about the same resolution."""

    side: float
    rows: list[Candidate] = field(default_factory=list)
    weights: int = 0

    def last_before(self, following: str | None) -> Candidate:
        """The last node outside the block that changes the resolution.

        That is the largest module that holds ``following``, the first node of the next resolution,
        and not the first node of this one. Such blocks often widen at the old resolution first.
        """
        if following is None:
            return self.rows[-1]
        modules = itertools.accumulate(following.split("."), "{}.{}".format)
        block = next((name for name in modules if not _inside(self.rows[0].name, name)), following)
        outside = [row for row in self.rows if not _inside(row.name, block)]
        return (outside or self.rows)[-1]


def _inside(name: str, module: str) -> bool:
    return f"{name}.".startswith(f"{module}.")


def _side(shape: tuple[int, ...], image: tuple[int, ...]) -> float:
    """Mean side of a feature map, channels first or last; 0 for what has not the image's proportions."""
    if len(shape) != 3 or len(image) != 3:
        return 0.0
    for height, width in (shape[1:], shape[:2]):
        side = float((height * width) ** 0.5)
        scale = side / (image[1] * image[2]) ** 0.5
        if abs(height - scale * image[1]) <= 1 and abs(width - scale * image[2]) <= 1:
            return side
    return 0.0


def _blocks(trunk: Sequence[Candidate]) -> list[Candidate]:
    """The last trunk node of each block, of the kind that there is most of."""
    ends = [
        row
        for row, after in itertools.zip_longest(trunk, trunk[1:])
        if after is None or after.name.rpartition(".")[0] != row.name.rpartition(".")[0]
    ]
    if not ends:
        return []

    def kind(row: Candidate) -> tuple[object, ...]:
        return row.op, row.shape, row.name.count(".")

    ((most, _),) = Counter(map(kind, ends)).most_common(1)
    return _spread([row for row in ends if kind(row) == most], 4)


def _by_shape(trunk: Sequence[Candidate]) -> list[Candidate]:
    """The last trunk node of each shape, the output's left out."""
    ends = [row for row, after in itertools.pairwise(trunk) if after.shape != row.shape]
    return ends or list(trunk[-1:])


def _spread(rows: Sequence[Candidate], most: int) -> list[Candidate]:
    """At most ``most`` of the rows, evenly spread, the last one included."""
    count = min(len(rows), most)
    return [rows[(index + 1) * len(rows) // count - 1] for index in range(count)]
