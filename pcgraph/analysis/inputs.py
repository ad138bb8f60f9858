"""What networks are analysed on, and how good their last state is, as one number an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pcgraph.errors import InputError
from pcgraph.scheduler import Scheduler
from pcgraph.simulation.recording import Run
from pcgraph.simulation.stopping import check_finite
from pcgraph.state import State

SMALL = 1e-12
"""Probabilities below it count as this."""


@dataclass(frozen=True)
class Inputs:
    """What networks are run on.

    Attributes:
        images: (batch, *shape).
        labels: Their classes (batch,); None where there are none, and the last answer of the intact network
            is taken.
        steps: Steps of the dynamics.
        seed: Of ``initial: normal`` and of what a random backbone draws.
    """

    images: Tensor
    labels: Tensor | None = None
    steps: int = 10
    seed: int = 0

    def run(
        self, scheduler: Scheduler, *, record: Sequence[str] | None = None, differentiable: bool = False
    ) -> Run:
        """All steps, with what ``record`` names; left out, the energies and the outputs."""
        told = ["energy", *(["output"] if scheduler.network.drive is not None else [])]
        return scheduler.run(
            self.images,
            self.steps,
            record=told if record is None else record,
            generator=torch.Generator().manual_seed(self.seed),
            seed=self.seed,
            differentiable=differentiable,
            diverging=True,
        )

    def start(self, scheduler: Scheduler) -> State:
        """The first state."""
        generator = torch.Generator().manual_seed(self.seed)
        return scheduler.start(self.images, generator=generator, seed=self.seed)

    def states(self, scheduler: Scheduler) -> Iterator[State]:
        """Every state, one after the other; none is kept.

        Raises:
            DivergenceError: A state is not finite.
        """
        generator = torch.Generator().manual_seed(self.seed)
        state = scheduler.start(self.images, generator=generator, seed=self.seed)
        moving = [name for name in state.values if name not in state.fixed]
        yield state
        for _ in range(self.steps):
            state = scheduler.step(state, generator=generator)
            check_finite(state, moving)
            yield state

    def classes(self, scheduler: Scheduler) -> Tensor | None:
        """The classes (batch,) that answers are judged by; None for networks without class scores."""
        scores = scores_of(self.run(scheduler)) if self.labels is None else None
        if self.labels is None:
            return None if scores is None else scores.argmax(dim=1)
        if scheduler.network.drive is None:
            raise InputError("a network without a backbone has no answers to compare labels with")
        return self.labels.to(scheduler.network.device)


def scores_of(run: Run) -> Tensor | None:
    """Log-probabilities of classes at the last step (batch, classes); None where the output is no such row.

    Outputs that are probabilities already are taken as they are; others go through a softmax.
    """
    output = run.output[-1] if run.output else None
    if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[1] < 2:
        return None
    sums = output.detach().sum(dim=1)
    if bool((output >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        return output.clamp_min(SMALL).log()
    return output.log_softmax(dim=1)


def losses(run: Run, classes: Tensor | None) -> Tensor:
    """One number an image, (batch,): the cross-entropy of the last output, or the energy of all terms.

    Args:
        run: See `Inputs.run`.
        classes: See `Inputs.classes`.

    Raises:
        InputError: Classes are given, and the output is no row of class scores of as many classes.
    """
    if classes is None:
        return torch.stack([series[-1] for series in run.energy.values()]).sum(dim=0)
    scores = scores_of(run)
    if scores is None:
        raise InputError("the network's output is no row of class scores to compare labels with")
    if int(classes.max()) >= scores.shape[1]:
        raise InputError(f"class {int(classes.max())} of {scores.shape[1]}")
    return F.nll_loss(scores, classes, reduction="none")
