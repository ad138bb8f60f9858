"""States have the type of the weights, also where the model computes in a smaller one (autocast)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx

from pcgraph.tracing.shapes import Value


def keep_precision(
    graph: fx.Graph, place: Mapping[str, str], values: Mapping[str, Value], dtype: torch.dtype
) -> tuple[dict[str, str], dict[str, Value]]:
    """Let each place have the image's type; what reads it there reads the type that the model had.

    This loses nothing, since the place fits ``dtype`` (`Value.fits`).

    Args:
        graph: A graph with one placeholder, the image; changed in place.
        place: The node name of each cut.
        values: What each node computes, by node name.
        dtype: The type of the weights, and so of the image.

    Returns:
        The node name of each cut, and what each node of the graph computes.
    """
    (image,) = graph.find_nodes(op="placeholder")
    nodes = {node.name: node for node in graph.nodes}
    place, values = dict(place), dict(values)
    for cut, name in place.items():
        node, value = nodes[name], values[name]
        if value.dtype == dtype:
            continue
        readers = list(node.users)
        with graph.inserting_after(node):
            kind = graph.call_function(getattr, (image, "dtype"))
        with graph.inserting_after(kind):
            state = graph.call_method("to", (node, kind))
        with graph.inserting_after(state):
            read = graph.call_method("to", (state, value.dtype))
        node.replace_all_uses_with(read, delete_user_cb=readers.__contains__)
        place[cut] = state.name
        values[kind.name] = Value(None, "dtype", False)
        values[state.name] = values[read.name] = value
    return place, values
