"""The numbers of an edge in a few characters, for drawings and trees."""

from __future__ import annotations

import math

from pcgraph.dynamics.gains import Energy, Gains
from pcgraph.graph import Edge, PCGraph
from pcgraph.network import PCNetwork
from pcgraph.spec import Layer, PredifyDynamics


def shape_text(shape: tuple[int, ...]) -> str:
    """``64×56×56``."""
    return "×".join(map(str, shape))


def gain_text(network: PCNetwork, edge: Edge, gains: Gains) -> str:
    """The gains that hold for an edge, in the letters of its rule: ``λ 0.1  α 0.01`` or ``π 1``."""
    if isinstance(network.dynamics, Energy):
        if isinstance(edge.precision, float):
            return f"π {edge.precision:.3g}"
        return "π learned" if edge.precision == "learned" else "π by unit"
    letter = "β" if edge.kind == "feedforward" else "λ"
    text = f"{letter} {float(gains.target[edge.bundle]):.3g}"
    errors = {node: float(gains.source.get((edge.name, node), 0.0)) for node in edge.sources}
    if edge.kind == "feedback" or any(errors.values()):
        shown = dict.fromkeys("auto" if math.isnan(one) else f"{one:.3g}" for one in errors.values())
        text += f"  α {'/'.join(shown)}"
    return text


def rate_text(network: PCNetwork, node: str) -> str:
    """``rate 0.1`` where the rule has one for each node; else empty."""
    dynamics = network.spec.dynamics
    if isinstance(dynamics, PredifyDynamics):
        return ""
    own = dynamics.nodes.get(node)
    return f"rate {dynamics.rate if own is None else own.rate:.3g}"


def predictor_text(edge: Edge) -> str:
    """``auto``, ``ConvTranspose2d + ReLU``, or ``backbone``."""
    if edge.predictor is None:
        return "backbone"
    if isinstance(edge.predictor, str):
        return edge.predictor
    return " + ".join(layer.name for layer in edge.predictor if isinstance(layer, Layer))


def start_text(graph: PCGraph, node: str) -> str:
    """``start ← image`` where the node's state begins at a learned guess; else empty."""
    start = graph.starts.get(node)
    return "" if start is None else f"start ← {' + '.join(start.sources)}"


def rule_text(network: PCNetwork) -> str:
    """The rule and the order in a line."""
    dynamics = network.spec.dynamics
    parts = [f"rule {dynamics.rule}"]
    if isinstance(dynamics, PredifyDynamics):
        parts.append(f"gradient {dynamics.gradient}")
    order = network.spec.schedule.order
    shown = f"order {order}" if isinstance(order, str) else f"order of {len(order)} blocks"
    return " · ".join([*parts, shown])
