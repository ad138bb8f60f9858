"""What is measured of every image at every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pcgraph.errors import DivergenceError, Fault, InputError
from pcgraph.scheduler import Scheduler

NO_ANSWER = -1
"""Instead of a class, where scores are not finite; it is never right."""
Trajectory = Mapping[str, Sequence[Tensor]]
"""States by node and step."""


class Drawn(NamedTuple):
    """What a random backbone draws by, besides the step: a seed, and places in the data (batch,)."""

    seed: int
    places: Tensor


@dataclass(frozen=True)
class Followed:
    """What a network did with a batch.

    Attributes:
        logits: (steps + 1, batch, classes), float32 on the CPU.
        values: States by node and step, where the network computed them; empty if they were not wanted.
    """

    logits: Tensor
    values: Trajectory

    @property
    def answers(self) -> Tensor:
        """(steps + 1, batch) the class with the highest score; `NO_ANSWER` where there is no such thing."""
        best, answers = self.logits.nan_to_num(torch.inf, torch.inf, -torch.inf).max(
            dim=-1
        )  # one NaN among them is enough
        return torch.where(best.isfinite(), answers, NO_ANSWER)


def follow(
    scheduler: Scheduler,
    images: Tensor,
    steps: int,
    keep_values: bool,
    seed: int,
    memory: str | None = None,
    drawn: Drawn | None = None,
) -> Followed:
    """Run the dynamics on a batch.

    Args:
        scheduler: Of the network.
        images: (batch, *shape).
        steps: Steps to make.
        keep_values: Whether to keep the states.
        seed: For ``initial: normal``.
        memory: What the run may take; see `Scheduler.run`.
        drawn: For what a backbone draws that is random in eval mode.

    An image whose states or scores are not finite after a step has NaN for scores from there on.

    Raises:
        InputError: The network's output is no row of class scores.
    """
    if scheduler.network.drive is None:
        raise InputError(
            Fault(
                "a network without a backbone has no output to evaluate",
                hint="From Python, read the states: Scheduler(network).run(..., record=['values']).",
            )
        )
    record = ["output", *(["values"] if keep_values else [])]
    given: dict[str, Any] = {"record": record, "tolerance": every_step(scheduler), "memory": memory}
    given.update(drawn._asdict() if drawn else {})
    try:
        run = scheduler.run(images, steps, generator=torch.Generator().manual_seed(seed), **given)
    except DivergenceError:
        generator = torch.Generator().manual_seed(seed)
        run = scheduler.run(images, steps, generator=generator, diverging=True, **given)
    for output in run.output[:1]:
        if not (isinstance(output, Tensor) and output.ndim == 2 and output.shape[1] > 1):
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise InputError(
                f"the network's output is {shape}; evaluation needs a score for each class: (batch, classes)"
            )
    missing = steps - run.steps  # of a batch that stands still
    logits = torch.stack([*run.output, *run.output[-1:] * missing]).float().cpu()
    if run.finite:
        lasting = torch.stack(run.finite).cummin(dim=0).values
        logits[1 : 1 + len(lasting)][~lasting] = torch.nan
        logits[1 + len(lasting) :, ~lasting[-1]] = torch.nan
    values = {name: [*series, *series[-1:] * missing] for name, series in run.values.items()}
    fixed = {scheduler.network.graph.receiver}
    return Followed(logits, {name: series for name, series in values.items() if name not in fixed})


def every_step(scheduler: Scheduler) -> float | None:
    """A tolerance that lets no batch stop early: results must not depend on the other images in it."""
    return None if scheduler.network.spec.schedule.tolerance is None else 0.0


def correlation_distance(one: Tensor, other: Tensor) -> Tensor:
    """One minus Pearson's correlation over the units of each image: (batch,).

    For ``x`` and ``y`` with their means over the units taken off, ``1 - x.y / (|x| |y|)``. It is NaN where
    one of them has no variance.

    Args:
        one: (batch, *shape).
        other: The same shape.
    """
    x, y = one.flatten(1).double(), other.flatten(1).double()
    x, y = x - x.mean(dim=1, keepdim=True), y - y.mean(dim=1, keepdim=True)
    length = torch.linalg.vector_norm
    correlation: Tensor = (x * y).sum(dim=1) / (length(x, dim=1) * length(y, dim=1))
    return 1 - correlation


def judge(seen: Followed, clean: Followed, labels: Tensor) -> dict[str, Tensor]:
    """Score a batch at every step.

    Args:
        seen: What the network did with the images of a condition.
        clean: What it did with the clean ones.
        labels: (batch,), -1 without a label.

    Returns:
        Each (steps + 1, batch): ``agree`` with the answer to the clean image at step 0 (uint8);
        ``diverged`` (uint8), if there is no answer somewhere because states or scores are not finite, which
        is wrong; with labels ``correct`` (uint8) and ``loss``, the cross-entropy in nats (float32); with
        states ``distance:NODE``, the correlation distance to the clean state of the same step (float32).
    """
    answers = seen.answers
    none = answers == NO_ANSWER
    found = {"agree": ((answers == clean.answers[0]) & ~none).byte()}
    if none.any():
        found["diverged"] = none.byte()
    if bool((labels >= 0).all()):
        found["correct"] = (answers == labels).byte()
        steps = len(seen.logits)
        losses = F.cross_entropy(seen.logits.flatten(0, 1), labels.repeat(steps), reduction="none")
        found["loss"] = losses.view(steps, -1)
    for node, states in seen.values.items():
        pairs = zip(states, clean.values[node], strict=True)
        distances = torch.stack([correlation_distance(one, other) for one, other in pairs])
        found[f"distance:{node}"] = distances.float().cpu()
    return found
