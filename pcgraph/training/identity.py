"""Whether a network is the one that a command began with."""

from __future__ import annotations

from typing import Any

from pcgraph.files.tensors import tensors_digest
from pcgraph.network import PCNetwork
from pcgraph.runs.record import FORMAT, resolved

FREE = {"extends", "name", "description", "train", "tune", "weights"}
"""Fields of a spec that say nothing of the dynamics; of weights the values count, not where they are."""


def identity(network: PCNetwork) -> dict[str, Any]:
    """What results depend on besides the data: resolved spec, weights, and the format of what is kept."""
    spec = {name: value for name, value in resolved(network.spec).items() if name not in FREE}
    tensors = {**dict(network.named_buffers()), **dict(network.named_parameters())}
    return {"format": FORMAT, "weights": tensors_digest(tensors), "spec": spec}
