"""The layouts of a model's values, from the operations that make and read them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode, get_proxy_slot, make_fx

from pcgraph.display.interruptions import uninterrupted
from pcgraph.spec.layout import Layout, Shape, convention
from pcgraph.tracing.axes import Atom, Axis, Dim, Dims, meaning, size_of, unknown, whole
from pcgraph.tracing.axis_rules import apply_rule
from pcgraph.tracing.lengths import known_constants
from pcgraph.tracing.numberless import numberless
from pcgraph.tracing.operands import Known, shape_of
from pcgraph.tracing.snapshot import Snapshot


def layouts(graph: fx.Graph, nodes: Mapping[str, fx.Node]) -> dict[str, Layout | None]:
    """The layouts of the values of some nodes.

    A convolution makes channels and places, a permutation moves them, a linear layer makes features. What the
    image's dimensions are, those say that read it; where nobody does, the `convention` holds.

    Args:
        graph: Of ATen operations with the values, fake or real, in ``meta["val"]``; one placeholder.
        nodes: Nodes of the graph, by the names that the result is to have.

    Returns:
        None where the operations do not say or contradict each other.
    """
    (image,) = graph.find_nodes(op="placeholder")
    first = _carry(graph, _image(shape_of(image)))
    known = _carry(graph, _as_read(first[image]))
    number = {id(node): index for index, node in enumerate(_axes(known.values()))}
    found = {name: describe(known[node][1:], number) for name, node in nodes.items()}
    by_convention = {name: convention(shape_of(image)[1:]) for name, node in nodes.items() if node is image}
    return {**found, **by_convention} if _silent(first[image]) else found


def _image(shape: Shape) -> Dims:
    return (whole(Axis(shape[0], "batch", weight=2)), *unknown(shape[1:]))


def _as_read(dims: Dims) -> Dims:
    """The image's dimensions once more, with what its readers take them for."""
    shape = tuple(map(size_of, dims))
    read = [dim[0].meaning if dim else (0, None, 0) for dim in dims[1:]]
    said = convention(shape[1:])
    fresh = _image(shape)
    silent = _silent(dims)
    for place, (dim, (weight, role, rank)) in enumerate(zip(fresh[1:], read, strict=True)):
        (atom,) = dim
        if role is not None:
            atom.axis.role, atom.axis.rank, atom.axis.weight = role, rank, weight
        elif silent and said is not None and len(shape) > 2:
            is_channels = place == said.channels
            atom.axis.role = "features" if is_channels else "place"
            atom.axis.rank, atom.axis.weight = 0 if is_channels else place - 1, 1
    return fresh


def _silent(image: Dims) -> bool:
    """Whether nobody who reads the image says what its dimensions are; parts of them may be features."""
    return not any(dim[0].meaning[1] for dim in image[1:] if dim)


def _carry(graph: fx.Graph, image: Dims) -> Known:
    """The dimensions of every value."""
    known: Known = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            known[node] = image
        elif node.op == "get_attr":
            known[node] = unknown(shape_of(node), constant=True)
        elif node.op == "call_function":
            known[node] = apply_rule(node, known)
    return known


def _axes(values: Iterable[Dims]) -> list[Axis]:
    return [atom.axis for dims in values for dim in dims for atom in dim]


# what a state is -------------------------------------------------------------------------------------


def describe(dims: Dims, number: Mapping[int, int]) -> Layout | None:
    """The layout of a state of these dimensions, the batch left out; ``number`` names axes."""
    before = after = 0
    opened: list[Dim] = []
    for dim in dims:
        inside = dim[0].axis.inside if len(dim) == 1 and dim[0].whole else None
        if inside is not None and meaning(dim)[1] != "features":  # constants beside channels are channels
            if before or after:
                return None
            before, dim, after = inside
        opened.append(() if size_of(dim) == 1 and meaning(dim)[1] is None else _as_parts(dim))
    if len(opened) == 1 and not _is_flat_map(opened[0]):
        return Layout((size_of(opened[0]),), 0)
    channels = _channels(opened)
    if channels == _CANNOT:
        return None
    return _grid(opened, channels, before, after, number)


_CANNOT = -2
_NONE = -1


def _channels(dims: list[Dim]) -> int:
    """Which dimension holds the channels: the one of features alone, or the only one that has any."""
    roles = [{atom.meaning[1] for atom in dim} for dim in dims]
    if any("mixed" in found or "batch" in found for found in roles):
        return _CANNOT
    pure = [place for place, found in enumerate(roles) if found == {"features"}]
    some = [place for place, found in enumerate(roles) if "features" in found]
    if len(dims) == 1 and len(dims[0]) > 1:
        return _NONE if not some else 0
    for found in (pure, some):
        if len(found) == 1:
            return found[0]
    return _CANNOT if some else _NONE


def _grid(
    dims: list[Dim], channels: int, before: int, after: int, number: Mapping[int, int]
) -> Layout | None:
    for place, dim in enumerate(dims):
        if place != channels and not _is_places(dim):
            return _rows(dims, dim, channels, before, after, number)
    parts: list[int] = []
    along: dict[int, Atom] = {}
    channel_part: int | None = None
    for place, dim in enumerate(dims):
        flat = len(dims) == 1
        if place == channels and not flat:
            channel_part = len(parts)
            parts.append(size_of(dim))
            continue
        pixels = not flat and any(atom.meaning[1] == "features" for atom in dim)
        for atom in dim[:1] if pixels else dim:
            if atom.meaning[1] == "features":
                channel_part = len(parts)
            else:
                along[len(parts)] = atom
            parts.append(size_of(dim) if pixels else atom.size)
        if not dim:
            parts.append(1)
    axes = _axes_of_grid(along)
    in_order = axes == tuple((part,) for part in along)
    every = len(along) + (channel_part is not None) == len(parts)
    if axes is None or not (in_order or every):
        return None
    return Layout(tuple(parts), channel_part, before, after, axes=None if in_order else axes)


def _rows(
    dims: list[Dim], dim: Dim, channels: int, before: int, after: int, number: Mapping[int, int]
) -> Layout | None:
    """Rows of features, of which nothing says that they are places of a grid."""
    if len(dims) != 2 or channels == _NONE or meaning(dim)[1] is not None or len(dim) != 1:
        return None
    row = number.get(id(dim[0].axis))
    return Layout((size_of(dims[0]), size_of(dims[1])), channels, before, after, False, row)


def _axes_of_grid(along: Mapping[int, Atom]) -> tuple[tuple[int, ...], ...] | None:
    """Of each axis of the grid its parts, the coarsest first; None where they do not make up the axis.

    Args:
        along: What each part goes along.
    """
    found: dict[Axis | int, list[int]] = {}
    for part, atom in sorted(along.items(), key=lambda item: -item[1].stride):
        found.setdefault(atom.axis if atom.axis.role == "place" else part, []).append(part)
    axes: dict[int, tuple[int, ...]] = {}
    for one, parts in found.items():
        rest = one.size if isinstance(one, Axis) else along[one].stride * along[one].size
        for part in parts:
            if along[part].stride * along[part].size != rest:
                return None
            rest = along[part].stride
        rank = along[parts[0]].meaning[2]
        if rank in axes:
            return None
        axes[rank] = tuple(parts)
    return tuple(axes[rank] for rank in sorted(axes))


def _is_places(dim: Dim) -> bool:
    """Whether a dimension goes along axes of the grid; each in full length and finer by a few channels."""
    roles = [atom.meaning[1] for atom in dim]
    if roles[:1] == ["place"] and roles[1:] and all(role == "features" for role in roles[1:]):
        return dim[0].coarse
    return all(role == "place" for role in roles)


def _is_flat_map(dim: Dim) -> bool:
    """Whether one dimension alone is a map or a sequence: places in full, and channels once at most."""
    roles = [atom.meaning[1] for atom in dim]
    allowed = all(role in ("place", "features") for role in roles) and roles.count("features") <= 1
    return "place" in roles and allowed and all(atom.coarse or atom.whole for atom in dim)


def _as_parts(dim: Dim) -> Dim:
    """A dimension whose parts are read as places and channels, as these; else itself."""
    if len(dim) != 1 or not dim[0].whole or dim[0].axis.weight > 1:
        return dim
    parts = sorted((part for part in dim[0].axis.read_as if part[1] not in (1, dim[0].size)), reverse=True)
    rest = dim[0].size
    made: list[Atom] = []
    for stride, size in parts:
        if stride * size != rest:
            return dim
        rest = stride
        weight, role, rank = Atom(dim[0].axis, stride, size).meaning
        made.append(Atom(Axis(size, role, rank, weight), 1, size))
    return tuple(made) if made and rest == 1 else dim


# reading a traced graph -------------------------------------------------------------------------------


def operations(
    root: nn.Module, graph: fx.Graph, input_shape: Shape, *, values: bool = False
) -> tuple[fx.Graph, dict[str, fx.Node]]:
    """The ATen operations of a traced graph, found on tensors without values.

    Args:
        root: The module that the graph refers to.
        graph: A graph with one placeholder.
        input_shape: Shape of one image.
        values: Whether to use tensors with values after all, for a model that asks for them.

    Returns:
        The operations, and for each node name of ``graph`` the operation that makes its value.
    """
    made: dict[str, fx.Node] = {}

    class Follow(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            mode = get_proxy_mode()
            if isinstance(value, Tensor) and mode is not None:
                slot = get_proxy_slot(value, mode.tracer, None)
                if slot is not None:
                    made[n.name] = slot.proxy.node
            return value

    follow = Follow(root, graph=graph)
    tensors = [*root.parameters(), *root.buffers()]
    dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.get_default_dtype())
    device = tensors[0].device if tensors else torch.device("cpu")
    tensors_are = numberless() if not values else contextlib.nullcontext()
    before = Snapshot(root)  # modules may keep what they computed, and that is no number here
    try:
        with uninterrupted(), torch.no_grad(), known_constants(), tensors_are:
            image = torch.zeros(2, *input_shape, dtype=dtype, device=device)
            traced = make_fx(lambda x: follow.run(x), tracing_mode="real", pre_dispatch=True)(image)
    finally:
        before.restore()
    return traced.graph, made
