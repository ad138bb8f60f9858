"""Representational similarity between nodes, steps, conditions and networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pcgraph.analysis.inputs import Inputs
from pcgraph.analysis.needs import need
from pcgraph.errors import InputError
from pcgraph.scheduler import Scheduler

Numbers = NDArray[np.float64]
MEASURES = ("cosine", "spearman", "corr", "kendall", "tau-a", "rho-a", "cosine_cov", "corr_cov")
"""How `compare_rdms` can compare."""


@dataclass(frozen=True)
class Geometry:
    """How the images lie to each other in the states of one node at one step.

    Attributes:
        network: Its name.
        condition: What the images went through.
        node: The node.
        step: Steps of the dynamics.
        units: Numbers in its state.
        gram: Inner products of the images' states, (images, images).
    """

    network: str
    condition: str
    node: str
    step: int
    units: int
    gram: Numbers

    @property
    def distances(self) -> Numbers:
        """The mean over the units of the squared difference of two images' states, (images, images)."""
        own = np.diag(self.gram)
        return np.asarray((own[:, None] + own[None, :] - 2 * self.gram).clip(min=0) / self.units)


def geometries(
    scheduler: Scheduler, inputs: Inputs, network: str = "", condition: str = ""
) -> Iterator[Geometry]:
    """The geometry of every node at every step; no states are kept.

    Args:
        scheduler: The network's scheduler.
        inputs: The images, two or more.
        network: What the network is called.
        condition: What the images went through.

    Raises:
        InputError: The inputs do not fit, or there is one image alone.
        DivergenceError: A state is not finite.
    """
    if len(inputs.images) < 2:
        raise InputError("similarity compares images: give two or more")
    for state in inputs.states(scheduler):
        for node, value in state.values.items():
            flat = value.detach().double().flatten(1)
            yield Geometry(network, condition, node, state.step, flat.shape[1], (flat @ flat.T).cpu().numpy())


def linear_cka(x: ArrayLike | Tensor, y: ArrayLike | Tensor) -> float:
    """Linear centred kernel alignment of two sets of states (Kornblith et al. 2019, eq. 3).

    Args:
        x: (images, units).
        y: (images, other units), of the same images.

    Returns:
        From 0 to 1, which is equal up to rotation, scale and shift; NaN where all images are alike.
    """
    first, second = (np.asarray(torch.as_tensor(one).detach().cpu(), dtype=np.float64) for one in (x, y))
    return float(cka_matrix([first @ first.T, second @ second.T])[0, 1])


def cka_matrix(grams: Sequence[Numbers]) -> Numbers:
    """Linear CKA of all pairs, from inner products (images, images) of each: (sets, sets)."""
    centred = []
    for gram in grams:
        rows = gram - gram.mean(axis=0)
        flat = (rows - rows.mean(axis=1, keepdims=True)).ravel()
        norm = np.linalg.norm(flat)
        rounding = np.finfo(float).eps * len(gram) * np.linalg.norm(gram)
        centred.append(flat / norm if norm > rounding else np.full_like(flat, np.nan))
    stacked = np.stack(centred)
    return np.asarray(stacked @ stacked.T)


def rdms(found: Sequence[Geometry], images: Sequence[str]) -> Any:
    """Representational dissimilarity matrices of squared Euclidean distances, as an rsatoolbox ``RDMs``.

    Args:
        found: The geometries; each becomes one matrix, with network, condition, node and step as descriptors.
        images: Names of the images, in their order.

    Raises:
        InputError: rsatoolbox is not installed.
    """
    rdm = need("rsatoolbox", "similarity", "dissimilarity matrices").rdm
    names = ("network", "condition", "node", "step")
    return rdm.RDMs(
        np.stack([one.distances for one in found]),
        dissimilarity_measure="squared euclidean",
        rdm_descriptors={name: [getattr(one, name) for one in found] for name in names},
        pattern_descriptors={"image": list(images)},
    )


def compare_rdms(found: Sequence[Geometry], method: str = "corr") -> Numbers:
    """The similarity of the dissimilarity matrices of all pairs, by rsatoolbox: (sets, sets).

    Args:
        found: The geometries, of the same images, three or more.
        method: One of `MEASURES`; see ``rsatoolbox.rdm.compare``.

    Raises:
        InputError: rsatoolbox is not installed, there is no such method, or there are too few images.
    """
    if method not in MEASURES:
        raise InputError(f"method={method!r}; expected one of {', '.join(MEASURES)}")
    images = len(found[0].gram)
    if images < 3:
        raise InputError("dissimilarity matrices are compared of three images or more")
    rdm = need("rsatoolbox", "similarity", "dissimilarity matrices").rdm
    whole = rdms(found, [str(place) for place in range(images)])
    return np.asarray(rdm.compare(whole, whole, method=method))
