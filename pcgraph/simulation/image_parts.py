"""Large predictions, a few images at a time: so that what they take meanwhile is that of a few images."""

from __future__ import annotations

import itertools
from collections.abc import Container
from dataclasses import replace

from torch import Tensor, nn

from pcgraph.predictors.fast.large_kernels import PartedConvTranspose2d
from pcgraph.predictors.fast.plain import is_plain
from pcgraph.predictors.fast.upsampling import UpsampledConvTranspose2d
from pcgraph.simulation.plan import Block, Group, Plan
from pcgraph.state import State

PART = 2**25
"""Bytes that the predictions of a group and the states that they move may have together in one part."""
APART = (
    nn.Sequential,
    nn.ConvTranspose2d,
    PartedConvTranspose2d,
    UpsampledConvTranspose2d,
    nn.Upsample,
    nn.ReLU,
)
"""Layers that compute each image as if it were alone, and whose weights take little time to read again."""


def image_parts(plan: Plan, group: Group, state: State, but: Container[str]) -> list[slice]:
    """The images whose predictions are made together, part by part; none where all are made at once.

    Args:
        plan: The plan of the step.
        group: Predictions.
        state: Whose predictions they are.
        but: Edges of predictions that are made of all images at once.
    """
    size = sum(state.values[plan.terms[term][0].target].nbytes for term in group.terms)
    size += sum(state.values[source].nbytes for block in group.blocks for source in block.pulled)
    if size <= PART or not _is_divisible(plan, group, state, but):
        return []
    batch = state.batch
    count = -(-batch // max(1, PART * batch // size))
    ends = [batch * part // count for part in range(count + 1)]
    return [slice(begin, end) for begin, end in itertools.pairwise(ends)]


def of_images(state: State, images: slice) -> State:
    """What predictors read of a state, of some images."""
    return replace(
        state,
        values={name: value[images] for name, value in state.values.items()},
        past={name: tuple(value[images] for value in values) for name, values in state.past.items()},
        resting={name: prediction[images] for name, prediction in state.resting.items()},
    )


def _is_divisible(plan: Plan, group: Group, state: State, but: Container[str]) -> bool:
    if not all(_is_apart(plan, block, but) for block in group.blocks):
        return False
    pulls = [(block.edges[0].name, source) for block in group.blocks for source in block.pulled]
    gains = (*group.draws.values(), *map(plan.pull_gain, pulls))
    on_processor = all(value.device.type == "cpu" for value in state.values.values())
    return on_processor and not any(isinstance(gain, Tensor) for gain in gains)


def _is_apart(plan: Plan, block: Block, but: Container[str]) -> bool:
    edge = block.edges[0]
    if block.in_backbone or edge.is_foreign or edge.name in but:
        return False
    layers = list(plan.network.predictors[edge.name].modules())
    return is_plain(*layers) and all(type(layer) in APART for layer in layers)
