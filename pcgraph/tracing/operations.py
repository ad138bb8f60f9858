"""The ATen operations behind the places of a graph that was read, each with the shapes of its value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import get_proxy_mode, get_proxy_slot, make_fx

from pcgraph.tracing.shapes import BATCH, like_weights


def aten_nodes(
    root: nn.Module, graph: fx.Graph, names: Mapping[str, str], input_shape: tuple[int, ...]
) -> dict[str, fx.Node]:
    """For each place whose value is one tensor the ATen operation that makes it.

    The nodes belong to one graph, so their ``users`` are the operations that read the place. Each has a
    fake tensor of its value under ``meta["val"]``, for a batch of two images. A place that only hands a
    tensor on (dropout in eval mode) has the node of that tensor.

    Args:
        root: The module that the graph refers to.
        graph: A graph with one placeholder and no in-place operation.
        names: The name of each place's node in the graph, by qualified name.
        input_shape: Shape of one image.
    """
    made: dict[str, fx.Node] = {}
    interpreter = _Watcher(root, graph, made)
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
        dtype, device = like_weights(root)
        image = mode.from_tensor(torch.empty((BATCH, *input_shape), dtype=dtype, device=device))
        make_fx(interpreter.run, pre_dispatch=True, _allow_non_fake_inputs=True)(image)
    return {qualified: made[name] for qualified, name in names.items() if name in made}


class _Watcher(fx.Interpreter):
    """Notes for each node the operation that made its value."""

    def __init__(self, root: nn.Module, graph: fx.Graph, made: dict[str, fx.Node]) -> None:
        super().__init__(root, graph=graph)
        self.made = made

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        mode = get_proxy_mode()
        if isinstance(value, Tensor) and mode is not None:
            slot = get_proxy_slot(value, mode.tracer, None)
            if slot is not None:
                self.made[n.name] = slot.proxy.node
        return value
