"""What a trace need not compute: errors that are zero, what they send back, and what was computed before.

Where states start at their predictions, every error but those of clamped nodes is zero until the states
around it have moved, one level a step. Such a step, and a prediction of states that did not move, is known
when the function is traced. All else is left as it is, so the numbers are the same; only, zero times what is
not finite is zero here, and whoever looks for what is not finite has to look at the states.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

aten = torch.ops.aten
SAME = {aten.detach.default, aten.alias.default, aten.clone.default}
ZEROS = {aten.zeros.default, aten.zeros_like.default}
LINEAR: Mapping[Any, tuple[int, ...]] = {
    aten.mm.default: (0, 1),
    aten.bmm.default: (0, 1),
    aten.mul.Tensor: (0, 1),
    **dict.fromkeys(
        (
            *(aten.div.Tensor, aten.neg.default, aten.sum.default, aten.sum.dim_IntList, aten.mean.default),
            *(aten.view.default, aten._unsafe_view.default, aten.expand.default, aten.t.default),
            *(aten.transpose.int, aten.permute.default, aten.unsqueeze.default, aten.squeeze.dim),
            *(aten.clone.default, aten.select.int, aten.slice.Tensor, operator.getitem),
        ),
        (0,),
    ),
}
"""Operations whose result is zero once one of these arguments is. So is that of those named ``..._backward``
once the gradient is that they are given."""


def shortened(program: fx.GraphModule, tensors: Sequence[Tensor]) -> fx.GraphModule:
    """The same function of these tensors, with fewer operations.

    Args:
        program: A trace without random numbers.
        tensors: Such as it is called with.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    pure = make_fx(torch.func.functionalize(program), tracing_mode="fake", _allow_non_fake_inputs=True)
    traced = pure(*tensors)
    nodes = list(traced.graph.nodes)
    last = next(at for at, node in enumerate(nodes) if node.op == "output" or _is_mutable(node.target))
    if any(node.op != "output" and node.target is not aten.copy_.default for node in nodes[last:]):
        return program  # only arguments may change, and only when all is computed
    short = _Shortening()
    for node in nodes[:last]:
        short.add(node)
    short.end(nodes[last:])
    found = fx.GraphModule(traced, short.graph)
    found.graph.eliminate_dead_code()
    found.recompile()
    return found


class _Shortening:
    """A copy of a graph that is made node by node.

    Attributes:
        graph: The copy.
    """

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self._copies: dict[fx.Node, fx.Node] = {}
        self._made: dict[str, fx.Node] = {}
        self._zeros: set[fx.Node] = set()

    def add(self, node: fx.Node) -> None:
        """Copy a node, or find one that has its value already."""
        args = fx.map_arg(node.args, self._copies.__getitem__)
        kwargs = fx.map_arg(node.kwargs, self._copies.__getitem__)
        if node.op != "call_function":
            self._copies[node] = self.graph.node_copy(node, self._copies.__getitem__)
        elif (same := self._same(node.target, args, kwargs)) is not None and _alike(same, node):
            self._copies[node] = same
        else:
            zero = self._is_zero(node.target, args, kwargs)
            if zero and (numbers := _zeros_like(node)) is not None:
                made = self._call(aten.full.default, *numbers, node)
            else:
                made = self._call(node.target, args, kwargs, node)
            self._copies[node] = made
            if zero:
                self._zeros.add(made)

    def end(self, nodes: Sequence[fx.Node]) -> None:
        """Hand over the results, and before that write into arguments."""
        *changes, output = nodes
        args: Any = fx.map_arg(output.args, self._copies.__getitem__)
        apart = self._apart(args[0])
        for node in changes:
            self.graph.node_copy(node, self._copies.__getitem__)
        self.graph.output(apart)

    def _call(self, target: Any, args: Any, kwargs: Any, node: fx.Node) -> fx.Node:
        """A call, made once."""
        key = repr((str(target), args, kwargs))  # nodes are told by their names, numbers with their types
        if key not in self._made:
            self._made[key] = self.graph.call_function(target, args, kwargs)
            self._made[key].meta = dict(node.meta)
        return self._made[key]

    def _same(self, target: Any, args: Any, kwargs: Any) -> Any:
        """The argument that a call returns unchanged; None where it does something."""
        if target in SAME:
            return args[0]
        if target in (aten.mul.Tensor, aten.div.Tensor, aten.mul.Scalar, aten.div.Scalar):
            return args[0] if isinstance(args[1], int | float) and args[1] == 1 else None
        if target in (aten.add.Tensor, aten.sub.Tensor) and args[1] in self._zeros:
            return args[0]
        if target is aten.add.Tensor and args[0] in self._zeros and not kwargs:
            return args[1]
        if target is aten.addmm.default and kwargs.get("beta", 1) == 1:
            return args[0] if self._zeros & set(args[1:]) else None
        return None

    def _is_zero(self, target: Any, args: Any, kwargs: Any) -> bool:
        """Whether a call can return nothing but zeros."""
        if target in ZEROS:
            return True
        if target is aten.sub.Tensor:
            return args[0] is args[1] and not kwargs
        if target is aten.lerp.Scalar:
            return args[0] in self._zeros and args[1] in self._zeros
        linear = LINEAR.get(target, (0,) if _is_backward(target) else ())
        return any(args[at] in self._zeros for at in linear)

    def _apart(self, results: Sequence[fx.Node]) -> list[fx.Node]:
        """Results that share no memory with another one or an argument, so that each may be written into."""
        seen: set[fx.Node] = set()
        apart = []
        for result in results:
            base = _base(result)
            again = base in seen or base.op == "placeholder"
            apart.append(self.graph.call_function(aten.clone.default, (result,)) if again else result)
            seen.add(base)
        return apart


def _base(node: fx.Node) -> fx.Node:
    """Whose memory the result of a node lies in."""
    made: Any = node.args[0] if node.target is operator.getitem else node
    returns = made.target._schema.returns if isinstance(made.target, OpOverload) else ()
    if any(one.alias_info is not None for one in returns):
        return _base(made.args[0])
    return node


def _is_backward(target: Any) -> bool:
    """Whether this is the derivative of an operation, which is linear in its first argument."""
    if not isinstance(target, OpOverload) or target.namespace != "aten":
        return False
    return "_backward" in target._schema.name and target._schema.arguments[0].name.startswith("grad")


def _alike(one: fx.Node, other: fx.Node) -> bool:
    """Whether two nodes have results of the same form."""
    forms = [
        (value.shape, value.stride(), value.dtype, value.device)
        for value in (one.meta["val"], other.meta["val"])
    ]
    return forms[0] == forms[1]


def _zeros_like(node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Arguments of `full`; None where it would lie in memory in another way."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or not value.is_contiguous():
        return None
    return (list(value.shape), 0), {"dtype": value.dtype, "device": value.device}


def _is_mutable(target: Any) -> bool:
    return isinstance(target, OpOverload) and target._schema.is_mutable
