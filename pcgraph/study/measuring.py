"""What a cell that measures does: a network's answers under one condition, and how far its states are off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pcgraph.datasets import ImageData, batches
from pcgraph.datasets.batches import Batch
from pcgraph.datasets.noise import mixed_seed
from pcgraph.evaluation.conditions import Clean, NoNoise
from pcgraph.evaluation.loop import check_classes
from pcgraph.evaluation.measures import Followed, correlation_distance, follow
from pcgraph.network import PCNetwork
from pcgraph.scheduler import Scheduler
from pcgraph.study.conditions import condition_of

DISTANCE, FROM_PLAIN = "distance:", "from_plain:"
"""Before the name of a node: the distance to the clean state of the same step, and to the first of these."""
SCORES = "(scores)"
"""Instead of a node: the class scores."""


def followed(network: PCNetwork, data: ImageData, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """What a cell measures of a network.

    Returns:
        ``answers`` at every step, (steps + 1, images) int16; ``labels`` (images,), the right ones; where the
        content has ``distances``, those that `DISTANCE` and `FROM_PLAIN` name, (steps + 1, images) float32.
    """
    scheduler = Scheduler(network)
    found = [
        _batch(scheduler, data, content, number, batch)
        for number, batch in enumerate(batches(data, content["batch"], seed=content["draws"]))
    ]
    return {name: torch.cat([one[name] for one in found], dim=-1).contiguous() for name in found[0]}


def _batch(
    scheduler: Scheduler, data: ImageData, content: Mapping[str, Any], number: int, batch: Batch
) -> dict[str, Tensor]:
    condition, draws = condition_of(content["condition"]), content["draws"]
    distances, agreement = "distances" in content, content.get("right") == "agreement"
    nothing = torch.empty(0, len(batch), dtype=torch.int64)
    clean = Clean(batch.images, batch.labels, batch.indices, nothing, scheduler, data.preprocess, draws)

    def run(images: Tensor, steps: int) -> Followed:
        return follow(scheduler, images, steps, distances, mixed_seed(draws, number))

    seen = run(condition.inputs(clean), content["steps"])
    check_classes(data, batch.labels, seen)
    found = {"answers": seen.answers.short(), "labels": batch.labels}
    if distances or agreement:
        unmoved = isinstance(condition, NoNoise)
        plain = seen if unmoved else run(batch.images, content["steps"] if distances else 0)
        found["labels"] = plain.answers[0] if agreement else batch.labels
        found.update(_distances(seen, plain) if distances else {})
    return found


def _distances(seen: Followed, clean: Followed) -> dict[str, Tensor]:
    """Correlation distances of states and scores, (steps + 1, batch) each."""
    found = {}
    ours, theirs = ({**one.values, SCORES: list(one.logits)} for one in (seen, clean))
    for name, series in ours.items():
        same = theirs[name]
        for kind, others in ((DISTANCE, same), (FROM_PLAIN, [same[0]] * len(series))):
            pairs = zip(series, others, strict=True)
            found[kind + name] = torch.stack([correlation_distance(*pair) for pair in pairs]).float().cpu()
    return found
