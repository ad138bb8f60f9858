"""What layers do to the axes of their operands, and what they take these for."""

from __future__ import annotations

from torch import fx

from pcgraph.tracing.axes import (
    MADE,
    SHARED,
    Dim,
    Dims,
    agreed,
    axis,
    meaning,
    read_as,
    size_of,
    unknown,
)
from pcgraph.tracing.operands import (
    Known,
    Rule,
    Shape,
    argument,
    first,
    is_constant,
    shape_of,
)

# place by place -------------------------------------------------------------------------------------


def same(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """What the first operand has."""
    return first(node, known)


def place_by_place(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """Operands of the result's own shape say what its dimensions are, then those that are stretched."""
    operands = [known[operand] for operand in node.all_input_nodes]
    padded = [((),) * (len(shape) - len(dims)) + dims for dims in operands]
    full = [dims for dims in padded if tuple(map(size_of, dims)) == shape and not is_constant(dims)]
    made: list[Dim] = []
    for index, size in enumerate(shape):
        dim = agreed([dims[index] for dims in full], size)
        if meaning(dim)[1] is None and len(full) < len(padded):
            dim = agreed([dims[index] for dims in (*full, *padded)], size)
        made.append(dim)
    return tuple(made)


# layers ---------------------------------------------------------------------------------------------


def convolution(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """Channels, then places; a kernel of one place mixes channels only, and says nothing of neighbours."""
    weight = node.args[1]
    assert isinstance(weight, fx.Node)
    kernel = shape_of(weight)[2:]
    dims = first(node, known)
    if len(dims) != len(kernel) + 2:
        return unknown(shape)
    pointwise = all(size == 1 for size in kernel)
    weigh = SHARED if pointwise else MADE
    read_as(dims[1], "features", 0, weigh)
    places: list[Dim] = []
    for rank, (dim, size) in enumerate(zip(dims[2:], shape[2:], strict=True)):
        if not pointwise or len(kernel) > 1:
            read_as(dim, "place", rank, weigh)
        keeps = pointwise and size_of(dim) == size
        places.append(dim if keeps else axis(size, "place", _rank(dim, rank), weigh))
    return dims[0], axis(shape[1], "features", weight=weigh), *places


def _rank(dim: Dim, rank: int) -> int:
    """Which axis of the grid: what it has been so far, or where it stands."""
    _, role, before = meaning(dim)
    return before if role == "place" else rank


def window(count: int) -> Rule:
    """Pooling, resizing and padding by neighbours: channels stay, places are new."""

    def rule(node: fx.Node, known: Known, shape: Shape) -> Dims:
        dims = first(node, known)
        places: list[Dim] = []
        for rank, (dim, size) in enumerate(zip(dims[-count:], shape[-count:], strict=True)):
            read_as(dim, "place", rank, MADE)
            said = meaning(dim)[1]
            role = "place" if said in (None, "place") or len(dim) > 1 else said
            places.append(axis(size, role, _rank(dim, rank), MADE))
        if len(dims) == count + 2:
            read_as(dims[1], "features", 0, SHARED)
        return *dims[:-count], *places

    return rule


def to_one_place(count: int) -> Rule:
    """Adaptive pooling: to one place it is a mean, which says nothing of neighbours."""
    pool = window(count)

    def rule(node: fx.Node, known: Known, shape: Shape) -> Dims:
        if any(size != 1 for size in shape[-count:]):
            return pool(node, known, shape)
        dims = first(node, known)
        return *dims[:-count], *[()] * count

    return rule


def pixels(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """`pixel_shuffle` and its inverse."""
    dims = first(node, known)
    for rank, dim in enumerate(dims[-2:]):
        read_as(dim, "place", rank, MADE)
    read_as(dims[-3], "features", 0, MADE)
    places = [axis(size, "place", rank, MADE) for rank, size in enumerate(shape[-2:])]
    return *dims[:-3], axis(shape[-3], "features", weight=MADE), *places


def blocks(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """`unfold`: a grid of blocks; the channels and the places of each are its features."""
    dims = first(node, known)
    if len(dims) != 4:
        return unknown(shape)
    read_as(dims[1], "features", 0, MADE)
    grid: list[Dim] = []
    settings = [argument(node, index, name) for index, name in enumerate(_IM2COL, start=1)]
    for rank, dim in enumerate(dims[2:]):
        read_as(dim, "place", rank, MADE)
        kernel, dilation, padding, stride = (setting[rank] for setting in settings)
        size = (size_of(dim) + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        grid.append(axis(size, "place", _rank(dim, rank), MADE))
    return dims[0], axis(shape[1], "features", weight=MADE), tuple(atom for dim in grid for atom in dim)


_IM2COL = ("kernel_size", "dilation", "padding", "stride")


def sampled(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """`grid_sample`: channels stay, and each place is what is shown at some place of the map."""
    dims = first(node, known)
    read_as(dims[1], "features", 0, SHARED)
    for rank, dim in enumerate(dims[2:]):
        read_as(dim, "place", rank, MADE)
    places = [axis(size, "place", rank, MADE) for rank, size in enumerate(shape[2:])]
    return *dims[:2], *places


def spectrum(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """`stft` reads a sequence; its readers say whether frequencies are features or places."""
    dims = first(node, known)
    read_as(dims[-1], "place", 0, MADE)
    return unknown(shape)


def norm_of_channels(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """Batch and group norm: channels in the second dimension."""
    dims = first(node, known)
    read_as(dims[1], "features", 0, SHARED)
    return dims


def norm_of_last(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """Layer norm: over one dimension, it is the features."""
    dims = first(node, known)
    if len(argument(node, 1, "normalized_shape", ())) == 1:
        read_as(dims[-1], "features", 0, SHARED)
    return dims


def linear(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """Shared by all dimensions but the last, which are the features."""
    dims = first(node, known)
    read_as(dims[-1], "features", 0, SHARED)
    return *dims[:-1], axis(shape[-1], "features", weight=SHARED)


def product(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """A matrix product: rows of the one, columns of the other; of a constant matrix, a linear layer's."""
    matrices = [operand for operand in node.args if isinstance(operand, fx.Node)][-2:]
    one, other = (known[matrix] for matrix in matrices)
    if min(len(one), len(other)) < 2:
        return unknown(shape)
    if is_constant(other) and other:
        read_as(one[-1], "features", 0, SHARED)
        columns: Dim = axis(shape[-1], "features", weight=SHARED)
    else:
        columns = other[-1]
    rows = one[-2]
    if is_constant(one) and one:
        read_as(other[-2], "features", 0, SHARED)
        rows = axis(shape[-2], "features", weight=SHARED)
    outer = []
    for index, size in enumerate(shape[:-2]):
        place = index - len(shape)
        outer.append(agreed([dims[place] for dims in (one, other) if len(dims) >= -place], size))
    return *outer, rows, columns


def attention(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """The places of the queries, the features of the values."""
    query, _, value = (known[operand] for operand in node.args[:3])  # type: ignore[index]
    return *query[:-1], value[-1]


def einsum(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """Dimensions of the same letter are the same; a letter of constants alone makes features."""
    equation, operands = node.args[0], node.args[1]
    assert isinstance(equation, str)
    assert isinstance(operands, (list, tuple))
    terms, arrow, result = equation.replace(" ", "").partition("->")
    if "." in equation or not arrow:
        return unknown(shape)
    found: dict[str, list[Dim]] = {}
    for term, operand in zip(terms.split(","), operands, strict=True):
        dims = known[operand]
        for letter, dim in zip(term, dims, strict=True):
            if not is_constant((dim,)):
                found.setdefault(letter, []).append(dim)
    return tuple(
        agreed(found[letter], size) if letter in found else axis(size, "features", weight=SHARED)
        for letter, size in zip(result, shape, strict=True)
    )


def recurrent(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """Over time, one step after the other; the last dimension are the features."""
    dims = first(node, known)
    if len(dims) != 3:
        return unknown(shape)
    batch_first = bool(node.args[-1])
    read_as(dims[-1], "features", 0, SHARED)
    read_as(dims[1 if batch_first else 0], "place", 0, MADE)
    return *dims[:-1], axis(shape[-1], "features", weight=SHARED)
