"""What a cell of an analysis does: run on with a network, and linearise it where it comes to rest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from pcgraph.analysis.settling import stability
from pcgraph.datasets import ImageData, choice, subset
from pcgraph.network import PCNetwork
from pcgraph.scheduler import Scheduler

DIGITS = 3
"""Digits of a radius that is found in float32: neither rounding nor the order of sums moves them by much."""


def stability_of(network: PCNetwork, data: ImageData, content: Mapping[str, Any]) -> dict[str, Any]:
    """The stability of a network on some images, as plain values."""
    draws = content["draws"]
    few = subset(data, choice(len(data), min(content["images"], len(data)), draws))
    images = torch.stack([few.item(place, draws).image for place in range(len(few))])
    scheduler, generator = Scheduler(network), torch.Generator().manual_seed(draws)
    begun = scheduler.start(images, generator=generator, seed=draws)
    found = stability(scheduler, begun, content["steps"], modes=1, seed=draws)
    radius = found.spectral_radius
    return {
        "spectral_radius": None if math.isnan(radius) else float(f"{radius:.{DIGITS}g}"),
        "unknown": found.unknown,
        "outcomes": [one.outcome for one in found.runs],
        "steps": [one.steps for one in found.runs],
    }
