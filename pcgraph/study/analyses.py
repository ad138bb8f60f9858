"""What the cells of analyses do: find out more of a network than its answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from pcgraph.analysis.inputs import Inputs
from pcgraph.analysis.per_unit import RECORDED, per_unit
from pcgraph.analysis.settling import stability
from pcgraph.analysis.similarity import Geometry, cka_matrix, compare_rdms, geometries
from pcgraph.datasets import ImageData, batches, choice, subset
from pcgraph.evaluation.conditions import Clean
from pcgraph.network import PCNetwork
from pcgraph.scheduler import Scheduler
from pcgraph.simulation.stopping import check_finite
from pcgraph.study.conditions import condition_of

DIGITS = 3
"""Digits of what is found in float32: neither rounding nor the order of sums moves them by much."""


def similarity_of(network: PCNetwork, data: ImageData, content: Mapping[str, Any]) -> list[list[Any]]:
    """Linear CKA of every node's states with those of the clean images at step 0.

    Returns:
        Node, step and similarity, from 0 to 1; None where all images are alike. Then, where it is asked for,
        how alike their dissimilarity matrices are.
    """
    scheduler, clean, seen = _looked_at(network, data, content)
    first = {one.node: one for one in geometries(scheduler, replace(clean, steps=0))}
    found = geometries(scheduler, seen)
    return [[one.node, one.step, *_alike(one, first[one.node], content.get("rdm"))] for one in found]


def _alike(one: Geometry, other: Geometry, rdm: str | None) -> list[float | None]:
    cka = _rounded(cka_matrix([one.gram, other.gram])[0, 1])
    return [cka] if rdm is None else [cka, _rounded(compare_rdms([one, other], rdm)[0, 1])]


def energy_of(network: PCNetwork, data: ImageData, content: Mapping[str, Any]) -> list[list[Any]]:
    """Energies and errors per unit.

    Returns:
        Error term, step, energy, error and state; see `pcgraph.analysis.per_unit.TermError`.

    Raises:
        DivergenceError: A state is not finite.
    """
    scheduler, _, seen = _looked_at(network, data, content)
    run = seen.run(scheduler, record=RECORDED)
    check_finite(run.state, [name for name in run.state.values if name not in run.state.fixed])
    return [
        [one.term, one.step, *map(_rounded, (one.energy, one.error, one.state))]
        for one in per_unit(run, network.graph)
    ]


def _looked_at(
    network: PCNetwork, data: ImageData, content: Mapping[str, Any]
) -> tuple[Scheduler, Inputs, Inputs]:
    """What runs a network, some clean images, and what a condition makes of them."""
    draws, scheduler = content["draws"], Scheduler(network)
    few = subset(data, choice(len(data), min(content["images"], len(data)), draws))
    (batch,) = batches(few, len(few), seed=draws)
    nothing = torch.empty(0, len(batch), dtype=torch.int64)
    clean = Clean(batch.images, batch.labels, batch.indices, nothing, scheduler, data.preprocess, draws)
    inputs = Inputs(batch.images, None, content["steps"], draws)
    return scheduler, inputs, replace(inputs, images=condition_of(content["condition"]).inputs(clean))


def _rounded(value: float) -> float | None:
    """To `DIGITS`; None for what is no number."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def stability_of(network: PCNetwork, data: ImageData, content: Mapping[str, Any]) -> dict[str, Any]:
    """The stability of a network on some images, as plain values."""
    draws = content["draws"]
    few = subset(data, choice(len(data), min(content["images"], len(data)), draws))
    images = torch.stack([few.item(place, draws).image for place in range(len(few))])
    scheduler, generator = Scheduler(network), torch.Generator().manual_seed(draws)
    begun = scheduler.start(images, generator=generator, seed=draws)
    found = stability(scheduler, begun, content["steps"], modes=1, seed=draws)
    return {
        "spectral_radius": _rounded(found.spectral_radius),
        "unknown": found.unknown,
        "outcomes": [one.outcome for one in found.runs],
        "steps": [one.steps for one in found.runs],
    }
