"""Models whose shapes are found without numbers, several times as fast as on fake tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

FUNCTIONS = ("torch", "torchvision", "_operator", "builtins", "math")
LAYERS = ("torch.nn.modules.", "torchvision.ops.")
"""Whose functions and modules give the same shapes on any device, or say that they cannot."""


def needs_no_storage(root: nn.Module, graph: fx.Graph) -> bool:
    """Whether nothing of a traced graph can tell that there are no numbers, or fails if it does.

    Autocast could: it goes by the device.
    """
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        return False
    return all(_is_known(node, root) for node in graph.nodes)


def _is_known(node: fx.Node, root: nn.Module) -> bool:
    if node.op == "call_module":
        parts = root.get_submodule(str(node.target)).modules()
        return all(
            type(part).__module__.startswith(LAYERS)
            and not (part._forward_hooks or part._forward_pre_hooks)
            and all(type(weight) is nn.Parameter for weight in part.parameters(recurse=False))
            for part in parts
        )
    if node.op == "call_function":
        return (getattr(node.target, "__module__", "") or "torch").partition(".")[0] in FUNCTIONS
    return True


def drop_storage(root: nn.Module) -> None:
    """Weights and buffers without numbers, until a `Snapshot` is restored."""
    for module in root.modules():
        tables: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for held in tables:
            held.update({name: None if one is None else one.to("meta") for name, one in held.items()})
