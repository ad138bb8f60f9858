"""The optimizer and the learning rate that a spec asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from pcgraph.spec.training import LearningRate, Optimizer


def make_optimizer(settings: Optimizer, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of these parameters."""
    kind: Any = getattr(torch.optim, settings.name)
    optimizer: torch.optim.Optimizer = kind(parameters, **settings.arguments)
    return optimizer


def rate_factor(schedule: LearningRate, batch: int, per_epoch: int, epochs: int) -> float:
    """What the learning rate is multiplied with for one batch.

    Args:
        schedule: How it changes.
        batch: Batches before this one, since the training began.
        per_epoch: Batches in an epoch.
        epochs: How long the training is.
    """
    done = batch / per_epoch
    rising = min(1.0, (batch + 1) / per_epoch / schedule.warmup) if schedule.warmup else 1.0
    if schedule.kind == "cosine":
        falling = max(done - schedule.warmup, 0.0) / max(epochs - schedule.warmup, 1 / per_epoch)
        return rising * (1 + math.cos(math.pi * min(falling, 1.0))) / 2
    if schedule.kind == "step":
        return rising * schedule.factor ** math.floor(done / schedule.every)
    return rising
