"""States for other programs: as one npz file, and as datasets of rsatoolbox."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcgraph.analysis.inputs import Inputs
from pcgraph.analysis.needs import need
from pcgraph.files.writing import whole_file
from pcgraph.scheduler import Scheduler

States = dict[str, NDArray[Any]]
"""By node, (steps + 1, images, *shape)."""


def states_of(scheduler: Scheduler, inputs: Inputs) -> States:
    """The states of every node at every step, in memory.

    Raises:
        InputError: The inputs do not fit.
        DivergenceError: A state is not finite.
    """
    found: dict[str, list[NDArray[Any]]] = {}
    for state in inputs.states(scheduler):
        for node, value in state.values.items():
            found.setdefault(node, []).append(value.detach().cpu().numpy())
    return {node: np.stack(series) for node, series in found.items()}


def save_npz(path: str | Path, states: States, images: Sequence[str]) -> None:
    """Write states as ``values:NODE`` and the images' names as ``images``, for ``numpy.load``; no pickles."""
    arrays = {f"values:{node}": series for node, series in states.items()}
    with whole_file(Path(path)) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, images=np.array(list(images)), **arrays)


def datasets(states: States, images: Sequence[str], **about: str) -> Iterator[Any]:
    """States as ``rsatoolbox.data.Dataset``: one for each node and step, (images, units).

    Args:
        states: See `states_of`.
        images: The images' names, which become the descriptor ``image`` of the observations.
        about: Further descriptors of every dataset, besides ``node`` and ``step``, such as the network.

    Raises:
        InputError: rsatoolbox is not installed.
    """
    dataset = need("rsatoolbox", "similarity", "datasets").data.Dataset
    for node, series in states.items():
        for step, values in enumerate(series):
            flat = values.reshape(len(values), -1)
            yield dataset(
                flat,
                descriptors={**about, "node": node, "step": step},
                obs_descriptors={"image": list(images)},
                channel_descriptors={"unit": np.arange(flat.shape[1])},
            )
