"""Which edges of a study nothing has trained: those that learn, and that the weights of their arm lack."""

from __future__ import annotations

from safetensors import safe_open

from pcgraph.building.network import build, weight_file
from pcgraph.errors import ModelError
from pcgraph.spec import Spec
from pcgraph.study.arms import Arms
from pcgraph.study.values import edge_name


def untrained(arms: Arms) -> dict[str, list[str]]:
    """The untrained edges of each wiring that has some; none, where the study trains.

    Raises:
        ModelError: The weights are no safetensors file.
    """
    if arms.study.train is not None:
        return {}
    found = {}
    for arm in arms.wirings:
        held, network = _held(arm.spec), build(arm.spec, trust=arms.trust, weights=False)
        learning = [name for name, one in network.predictors.items() if list(one.parameters())]
        names = [name for name in map(edge_name, arm.edges) if name in learning and name not in held]
        found.update({arm.name: names} if names and arm.cut is None else {})
    return found


def _held(spec: Spec) -> set[str]:
    """The edges whose weights the spec's file has."""
    if spec.weights is None:
        return set()
    path = weight_file(spec)
    try:
        with safe_open(path, framework="pt") as file:
            return {name.partition(".")[0] for name in file.keys()}  # noqa: SIM118  (it is no mapping)
    except Exception as error:  # safetensors raises its own type for a damaged file
        raise ModelError(f"'{path}' is not a safetensors file: {error}") from None
