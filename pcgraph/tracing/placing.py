"""Tensors that an exported graph makes on a device of its own are made where the weights are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx


@dataclass(frozen=True)
class Beside:
    """A function that is told to make its tensor on the device of another one."""

    function: Callable[..., Any]

    @property
    def __name__(self) -> str:
        return str(getattr(self.function, "__name__", "function")).replace(".", "_")

    def __call__(self, other: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Call it on the device of ``other``."""
        return self.function(*args, **{**kwargs, "device": other.device})


def place_by_image(graph: fx.Graph, device: torch.device) -> None:
    """Let operations that name ``device``, on which the graph was read, follow the module they belong to.

    Args:
        graph: A graph with one placeholder.
        device: Where the weights were.
    """
    weights = [node for node in graph.nodes if node.op == "get_attr"]
    for node in list(graph.nodes):
        if node.op != "call_function" or node.kwargs.get("device") != device:
            continue
        if weights:
            with graph.inserting_before(node):
                other = graph.get_attr(str(weights[0].target))
        else:
            (other,) = graph.find_nodes(op="placeholder")
        node.kwargs = {key: value for key, value in node.kwargs.items() if key != "device"}
        node.target, node.args = Beside(node.target), (other, *node.args)
