"""How far the states of a study's arms are from the clean ones, over the steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields

from safetensors.torch import load

from pcgraph.evaluation.conditions import from_key
from pcgraph.study.measuring import DISTANCE, FROM_PLAIN
from pcgraph.study.results import Results, to_csv
from pcgraph.study.work import MEASURED


@dataclass(frozen=True)
class DistanceRow:
    """One line of ``distances.csv``: one arm, seed, condition, step and node.

    Both distances are one minus Pearson's correlation over the units, the mean over the images; NaN where one
    has no such distance. See `pcgraph.evaluation.measures.correlation_distance`.

    Attributes:
        arm: The wiring.
        seed: The repetition.
        noise: The condition.
        level: Its strength.
        step: Steps of the dynamics.
        node: Whose states; ``(scores)`` are the class scores.
        images: How many.
        distance: To the clean image's state after as many steps.
        from_plain: To the clean image's state before the first step: the plain network's.
    """

    arm: str
    seed: int
    noise: str
    level: float
    step: int
    node: str
    images: int
    distance: float
    from_plain: float


def distance_rows(results: Results) -> Iterator[DistanceRow]:
    """Every distance, in the order of the file; none of an arm that failed, or that were not asked for."""
    for one in results.plan.measures:
        files = results.store.read(one.cell.key) if one.part == "test" else {}
        tensors = load(files[MEASURED]) if MEASURED in files else {}
        about = (one.arm, one.seed, *from_key(one.condition))
        for name in tensors:
            if name.startswith(DISTANCE):
                node = name.removeprefix(DISTANCE)
                pairs = zip(tensors[name].double(), tensors[FROM_PLAIN + node].double(), strict=True)
                for step, (own, plain) in enumerate(pairs):
                    yield DistanceRow(*about, step, node, len(own), float(own.mean()), float(plain.mean()))


def distances_csv(results: Results) -> str:
    """``distances.csv``: see `DistanceRow`."""
    rows = [astuple(row) for row in distance_rows(results)]
    return to_csv(rows, [one.name for one in fields(DistanceRow)])
