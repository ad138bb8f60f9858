"""Image by image what a run did: class probabilities and energies at every step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcgraph.errors import Fault, InputError
from pcgraph.learning.stability import EnergyWatch
from pcgraph.network import PCNetwork
from pcgraph.scheduler import Scheduler
from pcgraph.simulation.recording import Run
from pcgraph.simulation.tape import Tape

TOP = 5
"""Classes that are followed: those that are among so many best at some step."""
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Trajectory:
    """What one image did in a run.

    Attributes:
        image: Its name.
        classes: Every class that was among the best `TOP` at some step, the last step's best first;
            empty where the network has no class scores.
        probability: Their probabilities (classes, steps + 1).
        energy: The energy of each error term (terms, steps + 1).
    """

    image: str
    classes: tuple[int, ...]
    probability: Numbers
    energy: Numbers

    @property
    def steps(self) -> int:
        """Steps that were made."""
        return int(max(self.energy.shape[1], self.probability.shape[1])) - 1

    def best(self, step: int, count: int = 3) -> list[tuple[int, float]]:
        """The classes with the highest probabilities at a step, the best first."""
        order = np.argsort(-self.probability[:, step], kind="stable")[:count]
        return [(self.classes[index], float(self.probability[index, step])) for index in order]


def follow(
    scheduler: Scheduler,
    batches: Iterable[tuple[list[str], Tensor]],
    *,
    steps: int | None = None,
    record: Sequence[str] = (),
    generator: torch.Generator | None = None,
    bfloat16: bool = False,
    to: Tape | None = None,
    memory: str | None = None,
    seed: int = 0,
    first: int = 0,
) -> Iterator[tuple[list[Trajectory], Run]]:
    """Run the dynamics on batch after batch.

    Args:
        scheduler: The network's scheduler.
        batches: Names and inputs, as `load_images` gives them.
        steps: Steps; left out, the spec's.
        record: Quantities to keep besides the output and the energies.
        generator: Source of the numbers for ``initial: normal``.
        bfloat16: Whether to compute under autocast.
        to: Where the quantities go that it takes.
        memory: What a run may take; see `Scheduler.run`. The energy is not watched then.
        seed: Of what a random backbone draws.
        first: The place of the first image among all, by which it draws.

    Raises:
        DivergenceError: A state is not finite, or the energy of rule ``energy`` keeps rising.
        InputError: The output is not finite.

    Yields:
        A trajectory for each image of a batch, and the batch's run with what was recorded.
    """
    network = scheduler.network
    kept = followed(network, record)
    for names, inputs in batches:
        precision: AbstractContextManager[object] = nullcontext()
        if bfloat16:
            precision = torch.autocast(network.device.type, dtype=torch.bfloat16)
        with precision:
            watched = EnergyWatch.applies(network) and memory is None
            watch = EnergyWatch(network) if watched else None
            places = range(first, first + len(names))
            run = scheduler.run(
                inputs,
                steps,
                record=kept,
                to=to,
                generator=generator,
                seed=seed,
                places=places,
                watch=watch,
                memory=memory,
            )
        first += len(names)
        yield trajectories(names, run), run


def followed(network: PCNetwork, record: Sequence[str] = ()) -> list[str]:
    """What runs keep that are followed, with what else is wanted of them."""
    return ["energy", *(["output"] if network.drive else []), *record]


def trajectories(names: Sequence[str], run: Run) -> list[Trajectory]:
    """What each image did in a run that recorded ``energy``, and ``output`` if there is one.

    Raises:
        InputError: The output is not finite, so that no class is the best.
    """
    energies = [torch.stack(series) for series in run.energy.values()]
    energy = torch.stack(energies).double().cpu().numpy() if energies else np.zeros((0, 0, len(names)))
    scores = class_probabilities(run)
    if scores is not None:
        _check_numbers(names, scores)
    found = []
    for index, name in enumerate(names):
        classes: tuple[int, ...] = ()
        chosen: Numbers = np.zeros((0, run.steps + 1))
        if scores is not None:
            probability = scores[:, index]  # (steps + 1, classes)
            best = np.argsort(-probability, axis=1, kind="stable")[:, :TOP]
            seen = sorted({int(c) for row in best for c in row}, key=lambda c: (-probability[-1, c], c))
            classes, chosen = tuple(seen), probability[:, seen].T.copy()
        found.append(Trajectory(name, classes, chosen, energy[:, :, index].copy()))
    return found


def _check_numbers(names: Sequence[str], scores: Numbers) -> None:
    lost = np.argwhere(np.isnan(scores))  # (NaN, 3): step, image, class
    if len(lost):
        step, image = lost[0, :2].tolist()
        message = f"the network's output is not finite at step {step}, so no class is the best"
        hint = "Are there NaN in the weights, or are they too large?"
        raise InputError(Fault(message, hint=hint, where=names[image]))


def class_probabilities(run: Run) -> Numbers | None:
    """Class probabilities (steps + 1, batch, classes); None where the output is no row of scores.

    Outputs that are probabilities already are taken as they are; others go through a softmax.
    """
    if not run.output or not all(isinstance(output, Tensor) and output.ndim == 2 for output in run.output):
        return None
    scores = torch.stack([*run.output]).double().cpu()
    if scores.shape[-1] < 2:
        return None
    sums = scores.sum(dim=-1)
    if not (bool((scores >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)):
        scores = scores.softmax(dim=-1)
    result: Numbers = scores.numpy()
    return result
