"""Labels that count in another order than a network's outputs: its answers are right, under other numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pcgraph.datasets import ImageData, batches, noisy, subset
from pcgraph.network import PCNetwork
from pcgraph.scheduler import Scheduler

LEAST = 20
"""Images from which on something can be said."""
GAIN = 0.1
"""By how much more images must agree, for a warning, if the labels are renumbered."""
SURE = 4.0
"""How many standard errors that must be."""


@dataclass(frozen=True)
class Permuted:
    """Labels that look permuted.

    Attributes:
        accuracy: Share of the images that are answered with their label.
        agreement: The same, if the labels are renumbered one to one.
    """

    accuracy: float
    agreement: float

    def __str__(self) -> str:
        return (
            f"the labels look permuted: the plain network gives {self.accuracy:.1%} of the images their "
            f"label, and {self.agreement:.1%} if the classes are put in another order. Say the order that "
            "the network has: --classes, or 'classes' of the spec's backbone."
        )


def permuted(answers: Tensor, labels: Tensor) -> Permuted | None:
    """Whether answers would agree with labels, were these in another order.

    The order is read off one half of the images (each answer means the label that comes with it most often,
    one to one) and tried on the other, and the other way round: answers that have nothing to do with the
    labels gain nothing. It is reported if it is right for a share of ``0.5 + 0.9 / classes`` of the images
    (random features alone tell two classes apart), for 10 points more than the labels as they are, and by
    four standard errors.

    Args:
        answers: (images,) of a network that was trained; less than 0 is no answer.
        labels: (images,).

    Returns:
        None if nothing looks permuted.
    """
    known = labels >= 0
    answers, labels = answers[known].long(), labels[known].long()
    count = len(labels)
    classes = len(np.unique(labels.numpy()))
    if count < LEAST or classes < 2:
        return None
    right = (answers == labels).double().mean().item()
    half = torch.zeros(count, dtype=torch.bool)
    half[labels.argsort(stable=True)[::2]] = True  # half of each class
    size = int(max(answers.max(), labels.max())) + 2
    agreeing = sum(
        int((_order(answers[fit], labels[fit], size)[answers[~fit]] == labels[~fit]).sum())
        for fit in (half, ~half)
    )
    agreement = agreeing / count
    spread = ((agreement * (1 - agreement) + right * (1 - right)) / count) ** 0.5
    enough = 0.5 + 0.9 / classes
    if agreement < enough or agreement - right < max(GAIN, SURE * spread):
        return None
    return Permuted(right, agreement)


def _order(answers: Tensor, labels: Tensor, size: int) -> Tensor:
    """The label that each answer means, most frequent pairs first; -2 for one that is left over."""
    pairs, often = np.unique(torch.stack([answers, labels], dim=1).numpy(), axis=0, return_counts=True)
    order = torch.full((size,), -2, dtype=torch.int64)
    taken: set[int] = set()
    for answer, label in pairs[np.argsort(-often, kind="stable")].tolist():
        if answer >= 0 and order[answer] == -2 and label not in taken:
            order[answer] = label
            taken.add(label)
    return order


def permuted_data(network: PCNetwork, data: ImageData, most: int = 500, batch: int = 50) -> Permuted | None:
    """The same for the plain network's answers to ``most`` images, spread over all; `permuted`.

    None as well where nothing can be said: without labels, without class scores, or with random weights.
    """
    backbone = network.spec.backbone
    if network.drive is None or not data.labelled or backbone is None or backbone.weights is None:
        return None
    chosen = noisy(subset(data, range(0, len(data), -(-len(data) // most) or 1)), None)
    answers, labels = [], []
    for part in batches(chosen, batch):
        if len(part):
            generator = torch.Generator().manual_seed(0)
            run = Scheduler(network).run(
                part.images.to(network.device), 0, record=["output"], generator=generator
            )
            output = run.output[0]
            if not isinstance(output, Tensor) or output.ndim != 2:
                return None
            answers.append(output.argmax(dim=1).cpu())
            labels.append(part.labels)
    return permuted(torch.cat(answers), torch.cat(labels)) if answers else None
