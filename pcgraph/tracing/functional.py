"""In-place operations of a traced graph become out-of-place ones.

A state must never be written into by the network that reads it. So ``relu_(x)`` becomes
``y = relu(x)``, and whatever reads ``x`` later in the program reads ``y``.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from pcgraph.errors import Fault, ModelError

OPERATORS: dict[Callable[..., Any], Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    operator.ifloordiv: operator.floordiv,
    operator.imod: operator.mod,
    operator.ipow: operator.pow,
    operator.iand: operator.and_,
    operator.ior: operator.or_,
    operator.ixor: operator.xor,
    operator.ilshift: operator.lshift,
    operator.irshift: operator.rshift,
}

_VIEWS = """
    view view_as reshape reshape_as flatten unflatten ravel permute transpose swapaxes swapdims movedim
    moveaxis t T mT H mH adjoint squeeze unsqueeze expand expand_as broadcast_to narrow select chunk split
    split_with_sizes tensor_split hsplit vsplit dsplit unbind unfold diagonal getitem getattr detach alias
    contiguous to type type_as float double half bfloat16 cpu cuda real imag positive as_strided
    pixel_shuffle atleast_1d atleast_2d atleast_3d broadcast_tensors meshgrid data
    dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout
    stochastic_depth drop_path identity
"""
_SIZES = "size dim ndim ndimension shape numel nelement dtype device layout stride is_floating_point"
# What may give back its argument's own memory: a view of it, or the very same tensor.
VIEWS = frozenset(_VIEWS.split())
# What tells something about a tensor, and is none.
SIZES = frozenset(_SIZES.split())
SAME_TENSOR = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
VIEWING_MODULES = (nn.Flatten, nn.Unflatten, *SAME_TENSOR)
# torchvision's and timm's, which are imported by whom has them.
VIEWING_NAMES = ("StochasticDepth", "DropPath")


def set_item(x: Tensor, index: Any, value: Any) -> Tensor:
    """``x`` with ``x[index]`` set to ``value``, as a new tensor."""
    x = x.clone()
    x[index] = value
    return x


def on_copy(x: Tensor, method: str, *args: Any, **kwargs: Any) -> Tensor:
    """What ``x`` is after its in-place ``method``, as a new tensor."""
    result: Tensor = getattr(x.clone(), method)(*args, **kwargs)
    return result


class InPlaceProxy(fx.Proxy):
    """A proxy that records ``x += y`` and ``x[i] = y`` as what they are.

    Plain proxies record ``x += y`` as an addition, after which other names of ``x`` would keep the
    old value. The nodes keep the names that torchvision's naming gives them (``add``). And it records
    ``x.mT`` where it is said, and not in the module that uses it.
    """

    def __getattr__(self, name: str) -> Any:
        if name in ("T", "mT", "H", "mH", "real", "imag", "data"):
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        return super().__getattr__(name)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})


def _recorder(inplace: Callable[..., Any], name: str) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    def record(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", inplace, (self, other), {}, name)

    return record


for _inplace, _twin in OPERATORS.items():
    setattr(InPlaceProxy, f"__{_inplace.__name__}__", _recorder(_inplace, _twin.__name__.strip("_")))


def functionalise(root: nn.Module, graph: fx.Graph, qualified: dict[str, str]) -> None:
    """Make every operation of ``graph`` out-of-place; the modules of ``root`` are changed to suit.

    Args:
        root: The module that the graph was traced from, and refers to.
        graph: Changed in place; the nodes keep their names.
        qualified: The qualified name of each node name, for errors.

    Raises:
        ModelError: An in-place change reaches, through a view, a value that is used later on.
    """
    modules = dict(root.named_modules())
    order = {node: place for place, node in enumerate(graph.nodes)}
    tensors = _tensor_nodes(graph)
    for node in list(graph.nodes):
        changed = _changed(node, modules, tensors)
        if changed is None:
            continue
        if changed.op == "get_attr":
            raise ModelError(f"'{qualified.get(node.name, node.name)}' writes into '{changed.target}'")
        _make_out_of_place(node, modules)
        if changed is node:
            continue
        for other in _same_memory(changed, modules, order, before=order[node]):
            later = {user for user in other.users if order[user] > order[node]}
            if later and not _is_same_tensor(other, changed, modules):
                reader = min(later, key=order.__getitem__)
                what, target, shared, used = (
                    f"'{qualified.get(n.name, n.name)}'" for n in (node, changed, other, reader)
                )
                raise ModelError(
                    Fault(
                        f"{what} changes {target} in place, and with it {shared}, "
                        f"which may share its memory and is used again by {used}",
                        hint="Write the model without that in-place operation.",
                    )
                )
            other.replace_all_uses_with(node, delete_user_cb=later.__contains__)
    for module in modules.values():
        if getattr(module, "inplace", False) is True:
            module.inplace = False
    graph.lint()


def _changed(node: fx.Node, modules: dict[str, nn.Module], tensors: set[fx.Node]) -> fx.Node | None:
    """The tensor that ``node`` writes into; ``node`` itself when only its form has to change."""
    target: Any = None
    if node.op == "call_module":
        module = modules[str(node.target)]
        if getattr(module, "inplace", False) is True and not isinstance(module, SAME_TENSOR):
            target = _first(node)
    elif node.op == "call_method":
        name = str(node.target)
        if name.endswith("_") and not name.endswith("__") and name != "requires_grad_":
            target = _first(node)
    elif node.op == "call_function":
        function: Any = node.target
        name = getattr(function, "__name__", "")
        if isinstance(node.kwargs.get("out"), fx.Node):
            target = node.kwargs["out"]
        elif function in OPERATORS or function is operator.setitem:
            target = node.args[0]
            if target not in tensors:  # numbers and tuples: the operator makes a new one
                return node
        elif (name.endswith("_") and not name.endswith("__")) or _inplace_argument(node):
            target = _first(node)
    return target if isinstance(target, fx.Node) else None


def _first(node: fx.Node) -> Any:
    return node.args[0] if node.args else next(iter(node.kwargs.values()), None)


def _inplace_argument(node: fx.Node) -> bool:
    """Whether a function is called with ``inplace=True``, by keyword or by place."""
    if "inplace" in node.kwargs:
        return node.kwargs["inplace"] is True
    place = _inplace_place(node.target)
    return place is not None and len(node.args) > place and node.args[place] is True


def _inplace_place(function: Any) -> int | None:
    try:
        return list(inspect.signature(function).parameters).index("inplace")
    except (ValueError, TypeError):
        return None


def _make_out_of_place(node: fx.Node, modules: dict[str, nn.Module]) -> None:
    function: Any = node.target
    if node.op == "call_method":
        twin = str(function).removesuffix("_")
        if hasattr(Tensor, twin):
            node.target = twin
        else:
            first, *rest = node.args
            node.op, node.target, node.args = "call_function", on_copy, (first, function, *rest)
    elif node.op == "call_function":
        if "out" in node.kwargs:
            node.kwargs = {key: value for key, value in node.kwargs.items() if key != "out"}
        elif function in OPERATORS:
            node.target = OPERATORS[function]
        elif function is operator.setitem:
            node.target = set_item
        elif "inplace" in node.kwargs:
            node.kwargs = {**node.kwargs, "inplace": False}
        elif (place := _inplace_place(function)) is not None and len(node.args) > place:
            node.args = (*node.args[:place], False, *node.args[place + 1 :])
        else:
            twin = function.__name__.removesuffix("_")
            homes = (torch, nn.functional, torch.special)
            found = next((getattr(home, twin) for home in homes if hasattr(home, twin)), None)
            if found is None:
                raise ModelError(f"the in-place function '{function.__name__}' has no out-of-place twin")
            node.target = found


def _same_memory(
    changed: fx.Node, modules: dict[str, nn.Module], order: dict[fx.Node, int], before: int
) -> list[fx.Node]:
    """The nodes computed so far that may share memory with ``changed``, itself included."""
    family, todo = {changed}, [changed]
    while todo:
        node = todo.pop()
        near = [user for user in node.users if _may_view(user, modules) and order[user] < before]
        if _may_view(node, modules):
            near += node.all_input_nodes
        for other in near:
            if other not in family:
                family.add(other)
                todo.append(other)
    return sorted(family, key=order.__getitem__)


def _may_view(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        module = modules[str(node.target)]
        return isinstance(module, VIEWING_MODULES) or any(
            kind.__name__ in VIEWING_NAMES for kind in type(module).__mro__
        )
    if node.op in ("call_method", "call_function"):
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        return name in VIEWS and not (name == "getattr" and node.args[1] in SIZES)
    return False


def _is_same_tensor(one: fx.Node, other: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether the nodes are one tensor, a chain of modules between them that do nothing in eval mode."""

    def origin(node: fx.Node) -> fx.Node:
        while node.op == "call_module" and isinstance(modules[str(node.target)], SAME_TENSOR):
            node = node.all_input_nodes[0]
        return node

    return origin(one) is origin(other)


def _tensor_nodes(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose value is a tensor (or holds some), as far as the operations tell."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "call_method":
            is_tensor = node.target not in SIZES
        elif node.op == "call_function":
            name = getattr(node.target, "__name__", "")
            operands = node.all_input_nodes
            if name == "getattr":
                is_tensor = node.args[1] not in SIZES
            elif getattr(node.target, "__module__", "") in ("_operator", "math", "builtins"):
                is_tensor = any(operand in found for operand in operands)
            else:
                is_tensor = True
        else:
            is_tensor = node.op != "output"
        if is_tensor:
            found.add(node)
    return found
