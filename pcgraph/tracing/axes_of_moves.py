"""What becomes of axes where a tensor is reshaped, cut, put together or summed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import fx

from pcgraph.tracing.axes import (
    Dims,
    agreed,
    axis,
    cut,
    joined,
    like,
    meaning,
    reshape,
    size_of,
    unknown,
)
from pcgraph.tracing.operands import (
    Known,
    Shape,
    argument,
    first,
    index_of,
    name_of,
    shape_of,
    sizes_of,
)

# moving things ---------------------------------------------------------------------------------------


def reshaped(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """`view` and the like: the same entries, row by row, in another shape."""
    return reshape(first(node, known), shape)


def permuted(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """`permute`."""
    dims = first(node, known)
    return tuple(dims[index_of(place, len(dims))] for place in argument(node, 1, "dims"))


def transposed(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """`transpose`."""
    dims = list(first(node, known))
    one, other = (index_of(argument(node, i, f"dim{i - 1}"), len(dims)) for i in (1, 2))
    dims[one], dims[other] = dims[other], dims[one]
    return tuple(dims)


def moved(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """`movedim`."""
    dims = first(node, known)
    sources, targets = (argument(node, i, name) for i, name in ((1, "source"), (2, "destination")))
    sources, targets = ([x] if isinstance(x, int) else list(x) for x in (sources, targets))
    order = torch.movedim(torch.empty([1] * len(dims), device="meta"), sources, targets)
    assert order.dim() == len(dims)
    where = {index_of(t, len(dims)): index_of(s, len(dims)) for s, t in zip(sources, targets, strict=True)}
    rest = iter([place for place in range(len(dims)) if place not in where.values()])
    return tuple(dims[where[place] if place in where else next(rest)] for place in range(len(dims)))


def turned_around(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """All dimensions in the other order."""
    return tuple(reversed(first(node, known)))


def matrix_turn(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """The last two dimensions change places."""
    *outer, rows, columns = first(node, known)
    return *outer, columns, rows


def unsqueezed(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """A new dimension of size 1, whose readers say what it is."""
    dims = first(node, known)
    place = index_of(argument(node, 1, "dim"), len(shape))
    return *dims[:place], axis(1), *dims[place:]


def squeezed(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """Dimensions of size 1 go."""
    dims = first(node, known)
    asked = argument(node, 1, "dim", list(range(len(dims))))
    places = {index_of(place, len(dims)) for place in ([asked] if isinstance(asked, int) else asked)}
    return tuple(dim for i, dim in enumerate(dims) if i not in places or size_of(dim) != 1)


def expanded(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """`expand`: copies, which are places of nothing."""
    dims = first(node, known)
    dims = ((),) * (len(shape) - len(dims)) + dims
    return tuple(
        dim if size_of(dim) == size else axis(size, constant=False)
        for dim, size in zip(dims, shape, strict=True)
    )


def sliced(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """`slice`."""
    dims = list(first(node, known))
    place = index_of(argument(node, 1, "dim", 0), len(dims))
    size = size_of(dims[place])
    start, stop, step = slice(*(argument(node, i, n) for i, n in _SLICE)).indices(size)
    dims[place] = cut(dims[place], start, stop) if step == 1 else like(dims[place], shape[place])
    return tuple(dims)


_SLICE = ((2, "start"), (3, "end"), (4, "step"))


def dropped(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """`select` and `unbind`: one entry of a dimension."""
    dims = first(node, known)
    place = index_of(argument(node, 1, "dim", 0), len(dims))
    return *dims[:place], *dims[place + 1 :]


def resized(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """The same dimensions, some longer or shorter: padding, chunks, picked entries, repeats."""
    dims = first(node, known)
    if len(dims) != len(shape):
        return unknown(shape)
    return tuple(
        dim if size_of(dim) == size else like(dim, size) for dim, size in zip(dims, shape, strict=True)
    )


def _picked(*places: int) -> Callable[[Dims, Shape], Dims]:
    """Entries in another order along some dimensions: whose neighbours they are is not known any more."""

    def pick(dims: Dims, shape: Shape) -> Dims:
        moved = {index_of(place, len(dims)) for place in places}
        return tuple(
            (axis(size) if meaning(dim)[1] == "place" else like(dim, size)) if index in moved else dim
            for index, (dim, size) in enumerate(zip(dims, shape, strict=True))
        )

    return pick


def indexed(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """Entries picked along one dimension by a list of indices."""
    indices = argument(node, 1, "indices")
    places = [place for place, index in enumerate(indices) if index is not None]
    if len(places) != 1 or len(shape_of(indices[places[0]])) != 1:
        return unknown(shape)
    return _picked(*places)(first(node, known), shape)


def put(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """Entries set where a mask says so: everything stays where it is. By a list of indices, it need not."""
    indices = [index for index in argument(node, 1, "indices") if index is not None]
    masks = all(index.meta["val"].dtype == torch.bool for index in indices)
    return first(node, known) if masks else unknown(shape)


def turned(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """`flip`, `roll` and `index_select`."""
    places = node.args[2 if name_of(node) == "roll" else 1] if len(node.args) > 1 else ()
    places = [places] if isinstance(places, int) else list(places)  # type: ignore[arg-type]
    return _picked(*(places or range(len(shape))))(first(node, known), shape)


def concatenated(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """`cat`."""
    tensors = [known[operand] for operand in node.args[0]]  # type: ignore[union-attr, index]
    tensors = [dims for dims in tensors if len(dims) == len(shape)]
    place = index_of(argument(node, 1, "dim", 0), len(shape))
    return tuple(
        joined([dims[index] for dims in tensors], size)
        if index == place
        else agreed([dims[index] for dims in tensors], size)
        for index, size in enumerate(shape)
    )


def stacked(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """`stack`: a new dimension."""
    tensors = [known[operand] for operand in node.args[0]]  # type: ignore[union-attr, index]
    place = index_of(argument(node, 1, "dim", 0), len(shape))
    rest = [*shape[:place], *shape[place + 1 :]]
    dims = [agreed([one[index] for one in tensors], size) for index, size in enumerate(rest)]
    return *dims[:place], axis(shape[place]), *dims[place:]


def reduced(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """Sums and the like over some dimensions, which go, or stay with size 1."""
    dims = first(node, known)
    asked = argument(node, 2 if "norm" in name_of(node) else 1, "dim", None)
    places = range(len(dims)) if asked is None else [asked] if isinstance(asked, int) else asked
    gone = {index_of(place, len(dims)) for place in places} if len(list(places)) else {*range(len(dims))}
    kept = len(shape) == len(dims)
    return tuple(() if i in gone else dim for i, dim in enumerate(dims) if kept or i not in gone)


def item(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """One of several results: the first, or a part of those that are all alike."""
    several = node.args[0]
    assert isinstance(several, fx.Node)
    name = name_of(several)
    if name in SPLITS:
        return _chunk(several, known, int(node.args[1]))  # type: ignore[arg-type]
    return known[several] if node.args[1] == 0 or name == "unbind" else unknown(shape)


SPLITS = ("split", "split_with_sizes", "chunk", "tensor_split")


def split(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """`split`, `chunk` and the like: of several results, the first."""
    return _chunk(node, known, 0)


def _chunk(node: fx.Node, known: Known, index: int) -> Dims:
    """One of the chunks that a dimension is split into."""
    dims = list(first(node, known))
    place = index_of(argument(node, 2, "dim", 0), len(dims))
    sizes = [sizes_of(chunk)[place] for chunk in node.meta["val"]]
    start = sum(sizes[:index])
    dims[place] = cut(dims[place], start, start + sizes[index])
    return tuple(dims)
