"""One batch: losses to gradients to weights, in parts that fit and over all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pcgraph.datasets import Batch
from pcgraph.datasets.noise import mixed_seed
from pcgraph.errors import Fault, InputError, LossError
from pcgraph.spec.training import Fitting
from pcgraph.training.gradients import clear, differentiate, each_as_one
from pcgraph.training.optimization import make_optimizer, rate_factor
from pcgraph.training.task import Task

if TYPE_CHECKING:
    from accelerate import Accelerator


class BatchStep:
    """Lets the weights follow one batch after the other.

    Args:
        task: What learns, and from what.
        settings: Optimizer, batch, parts of a batch and so on.
        accelerator: Device, precision and processes.
        per_epoch: Batches an epoch, for the schedule of the learning rate.
        seed: Of what the task draws.

    Attributes:
        parameters: What learns.
        optimizer: What moves it.

    Raises:
        InputError: Nothing can learn.
    """

    def __init__(
        self, task: Task, settings: Fitting, accelerator: Accelerator, per_epoch: int, seed: int
    ) -> None:
        self.task, self.settings, self.accelerator = task, settings, accelerator
        self.per_epoch, self.seed = per_epoch, seed
        self.parameters = task.parameters()
        if not self.parameters:
            raise InputError("nothing in this network can learn: it has no weights of that kind")
        self.optimizer = accelerator.prepare(make_optimizer(settings.optimizer, self.parameters))
        if accelerator.num_processes > 1:
            from accelerate.utils import broadcast

            each_as_one([parameter.data for parameter in self.parameters], broadcast)

    def __call__(self, batch: Batch, step: int, stop: Callable[[], bool]) -> tuple[dict[str, float], bool]:
        """Let the weights follow one batch.

        Args:
            batch: This process's share of it.
            step: Batches done before it.
            stop: Whether this process is asked to stop.

        Returns:
            The losses, averaged over the batches of all processes, with their ``total``; and whether any
            process is asked to stop.

        Raises:
            LossError: A loss is not finite.
            InputError: No image of the batch can be read.
        """
        self._draw_for(step)
        factor = rate_factor(self.settings.schedule, step, self.per_epoch, self.settings.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.optimizer.lr * factor
        parts = batch.to(self.accelerator.device).parts(self.settings.accumulate)
        if not parts:
            if self.accelerator.num_processes > 1:
                raise InputError("no image of a whole batch can be read")
            return {}, stop()
        moments = [self.task.moments(part) for part in parts]
        found: dict[str, float] = {}
        stopping = False
        while (made := self._moment(moments, parts)) is not None:
            asked = torch.tensor([float(stop())], device=self.accelerator.device)
            names, sums = made
            sums = self._summed(torch.cat([sums, asked]))
            *values, count, stopping_votes = sums.tolist()
            stopping = stopping or stopping_votes > 0
            found = {name: value / count for name, value in zip(names, values, strict=True)}
            check_finite(found, f"batch {step + 1}")
            self._move(count / self.settings.batch)
        return {**found, "total": sum(found.values())} if len(found) != 1 else found, stopping

    def rehearse(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The last losses and gradients of a batch, by name; all is left as it was, random streams too."""
        with torch.random.fork_rng(), kept_buffers(self.task.network):
            self._draw_for(step)
            parts = batch.to(self.accelerator.device).parts(self.settings.accumulate)
            moments = [self.task.moments(part) for part in parts]
            found: dict[str, Tensor] = {}
            while (made := self._moment(moments, parts)) is not None:
                gradients = [one.grad for one in self.parameters if one.grad is not None]
                found = {f"gradient {place}": one for place, one in enumerate(gradients)}
                found["losses"] = made[1]
        clear(self.parameters)
        return found

    def _draw_for(self, step: int) -> None:
        """Let the task draw what it draws for this batch."""
        torch.manual_seed(mixed_seed(self.seed, step, self.accelerator.process_index))

    def _moment(
        self, moments: list[Iterator[Mapping[str, Tensor]]], parts: list[Batch]
    ) -> tuple[list[str], Tensor] | None:
        """The gradient of one moment, part by part; losses times images, and the images. None at the end."""
        clear(self.parameters)
        names: list[str] = []
        sums = torch.zeros((), device=self.accelerator.device)
        for moment, part in zip(moments, parts, strict=True):
            with self.accelerator.autocast():
                losses = next(moment, None)
            if losses is None:
                return None
            differentiate(
                losses,
                self.parameters,
                share=len(part) / self.settings.batch,
                backward=self.accelerator.backward,
            )
            names = list(losses)
            values = [loss.detach().float() * len(part) for loss in losses.values()]
            sums = sums + torch.stack([*values, torch.tensor(float(len(part)), device=sums.device)])
        return names, sums

    def _move(self, filled: float) -> None:
        """One step of the optimizer; ``filled`` is the part of a full batch that there was."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if self.accelerator.num_processes > 1:
            each_as_one(gradients, self._summed)
        if filled != 1:
            for gradient in gradients:
                gradient /= filled
        if self.settings.clip is not None:
            self.accelerator.clip_grad_norm_(self.parameters, self.settings.clip)
        self.optimizer.step()

    def _summed(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.accelerator.num_processes == 1:
            return values
        summed: Tensor = self.accelerator.reduce(values, "sum")
        return summed


@contextmanager
def kept_buffers(module: nn.Module) -> Iterator[None]:
    """Afterwards running means and the like are what they were."""
    before = {buffer: buffer.clone() for buffer in module.buffers()}
    try:
        yield
    finally:
        for buffer, value in before.items():
            buffer.copy_(value)


def check_weights(tensors: Mapping[str, Tensor]) -> None:
    """Make sure that no weight ran away with the last batch, whose loss is that of the weights before.

    Raises:
        LossError: A weight is not finite, or its square is not.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.detach().float().square().sum().isfinite()):
            message = f"the weights '{name}' ran away: the sum of their squares is not finite"
            raise LossError(Fault(message, hint="Lower the learning rate: --lr, or 'optimizer.lr'."))


def check_finite(losses: Mapping[str, float], where: str) -> None:
    """Make sure that all losses are numbers; ``where`` they were found is for the message.

    Raises:
        LossError: One is not.
    """
    for name, value in losses.items():
        if not -float("inf") < value < float("inf"):
            message = f"the loss '{name}' of {where} is not finite"
            raise LossError(Fault(message, hint="Lower the learning rate: --lr, or 'optimizer.lr'."))
