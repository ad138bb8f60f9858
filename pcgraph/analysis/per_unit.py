"""Energies and errors per unit, so that edges of different sizes compare."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pcgraph.graph import PCGraph
from pcgraph.simulation.recording import Run

RECORDED = ("values", "errors", "energy")
"""What a run has to record for `per_unit`."""


@dataclass(frozen=True)
class TermError:
    """How wrong the prediction of one error term is at one step, per unit of its target, over all images.

    Attributes:
        term: The error term.
        step: Steps of the dynamics.
        energy: Its energy over the number of units.
        error: Root of the mean square of the error.
        state: Root of the mean square of the target's state.
    """

    term: str
    step: int
    energy: float
    error: float
    state: float

    @property
    def share(self) -> float:
        """The error as a share of the state: 1 is what predicting nothing does. NaN for a state of zeros."""
        return self.error / self.state if self.state else math.nan


def per_unit(run: Run, graph: PCGraph) -> Iterator[TermError]:
    """Every error term at every step of a run that has recorded what `RECORDED` names.

    Raises:
        InputError: Something was not recorded.
    """
    for term, (first, *_) in graph.terms.items():
        units = math.prod(graph.nodes[first.target].shape)
        energies, errors, values = run.energy[term], run.errors[term], run.values[first.target]
        for step, (energy, error, value) in enumerate(zip(energies, errors, values, strict=True)):
            mean = float(energy.detach().double().mean()) / units
            yield TermError(term, step, mean, _rms(error), _rms(value))


def _rms(value: Tensor) -> float:
    return float(torch.sqrt(value.detach().double().square().mean()))
