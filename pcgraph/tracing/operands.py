"""An operation of a traced graph and its operands, as the rules for axes ask for them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from pcgraph.tracing.axes import Dims

Shape = tuple[int, ...]
Known = dict[fx.Node, Dims]
"""The dimensions of each value of the graph that is known so far."""
Rule = Callable[[fx.Node, Known, Shape], Dims]
"""From an operation, what is known and the shape of the result to the result's dimensions."""


def shape_of(node: fx.Node) -> Shape:
    """Shape of a node's value, or of the first of several; () for what is no tensor."""
    value = node.meta.get("val")
    while isinstance(value, (tuple, list)) and value:
        value = value[0]
    return sizes_of(value) if isinstance(value, torch.Tensor) else ()


def sizes_of(value: torch.Tensor) -> Shape:
    """A tensor's shape in numbers; of a size that may change, the one it was traced with."""
    return tuple(size if isinstance(size, int) else int(size.node.hint) for size in value.shape)


def is_constant(dims: Dims) -> bool:
    """Whether a value depends on no image."""
    return all(atom.axis.constant for dim in dims for atom in dim)


def name_of(node: fx.Node) -> str:
    """The name of an operation, without its overload and without the mark of what works in place."""
    if node.target is operator.getitem:
        return "getitem"
    packet = getattr(node.target, "overloadpacket", None)
    name = getattr(packet, "__name__", None) or getattr(node.target, "__name__", str(node.target))
    return str(name).rstrip("_") if not str(name).startswith("_") else str(name)


def argument(node: fx.Node, index: int, name: str, default: Any = None) -> Any:
    """An argument of an operation, by place or by name."""
    if name in node.kwargs:
        return node.kwargs[name]
    return node.args[index] if index < len(node.args) else default


def first(node: fx.Node, known: Known) -> Dims:
    """The dimensions of the first operand, or of the first of several."""
    operand = node.args[0]
    while isinstance(operand, (tuple, list)):
        operand = operand[0]
    assert isinstance(operand, fx.Node)
    return known[operand]


def index_of(dim: int, count: int) -> int:
    """A dimension that may be counted from the end."""
    return dim % max(count, 1)
