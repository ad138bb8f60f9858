"""What each operation does to the axes of its operands: one rule for each kind of ATen operation."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from pcgraph.tracing.axes import (
    MADE,
    SHARED,
    Dim,
    Dims,
    agreed,
    axis,
    cut,
    joined,
    like,
    meaning,
    read_as,
    reshape,
    size_of,
    unknown,
)

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


def apply_rule(node: fx.Node, known: Known) -> Dims:
    """The dimensions of what an operation computes; new ones where it has no rule."""
    shape = shape_of(node)
    operands = [known[operand] for operand in node.all_input_nodes]
    constant = bool(operands) and all(_constant(dims) for dims in operands)
    if constant:
        return unknown(shape, constant=True)
    rule = RULES.get(_name(node))
    if rule is None and isinstance(node.target, torch._ops.OpOverload):
        rule = _place_by_place if torch.Tag.pointwise in node.target.tags else None
    dims = unknown(shape) if rule is None else rule(node, known, shape)
    return dims if tuple(map(size_of, dims)) == shape else unknown(shape)


def _constant(dims: Dims) -> bool:
    return all(atom.axis.constant for dim in dims for atom in dim)


def _name(node: fx.Node) -> str:
    if node.target is operator.getitem:
        return "getitem"
    packet = getattr(node.target, "overloadpacket", None)
    name = getattr(packet, "__name__", None) or getattr(node.target, "__name__", str(node.target))
    return str(name).rstrip("_") if not str(name).startswith("_") else str(name)


def _argument(node: fx.Node, index: int, name: str, default: Any = None) -> Any:
    if name in node.kwargs:
        return node.kwargs[name]
    return node.args[index] if index < len(node.args) else default


def _first(node: fx.Node, known: Known) -> Dims:
    operand = node.args[0]
    while isinstance(operand, (tuple, list)):
        operand = operand[0]
    assert isinstance(operand, fx.Node)
    return known[operand]


def _index(dim: int, count: int) -> int:
    return dim % max(count, 1)


# place by place -------------------------------------------------------------------------------------


def _same(node: fx.Node, known: Known, shape: Shape) -> Dims:
    return _first(node, known)


def _place_by_place(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """Operands of the result's own shape say what its dimensions are, then those that are stretched."""
    operands = [known[operand] for operand in node.all_input_nodes]
    padded = [((),) * (len(shape) - len(dims)) + dims for dims in operands]
    full = [dims for dims in padded if tuple(map(size_of, dims)) == shape and not _constant(dims)]
    made: list[Dim] = []
    for index, size in enumerate(shape):
        dim = agreed([dims[index] for dims in full], size)
        if meaning(dim)[1] is None and len(full) < len(padded):
            dim = agreed([dims[index] for dims in (*full, *padded)], size)
        made.append(dim)
    return tuple(made)


# layers ---------------------------------------------------------------------------------------------


def _convolution(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """Channels, then places; a kernel of one place mixes channels only, and says nothing of neighbours."""
    weight = node.args[1]
    assert isinstance(weight, fx.Node)
    kernel = shape_of(weight)[2:]
    dims = _first(node, known)
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


def _window(count: int) -> Rule:
    """Pooling, resizing and padding by neighbours: channels stay, places are new."""

    def rule(node: fx.Node, known: Known, shape: Shape) -> Dims:
        dims = _first(node, known)
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


def _to_one_place(count: int) -> Rule:
    """Adaptive pooling: to one place it is a mean, which says nothing of neighbours."""
    pool = _window(count)

    def rule(node: fx.Node, known: Known, shape: Shape) -> Dims:
        if any(size != 1 for size in shape[-count:]):
            return pool(node, known, shape)
        dims = _first(node, known)
        return *dims[:-count], *[()] * count

    return rule


def _pixels(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """`pixel_shuffle` and its inverse."""
    dims = _first(node, known)
    for rank, dim in enumerate(dims[-2:]):
        read_as(dim, "place", rank, MADE)
    read_as(dims[-3], "features", 0, MADE)
    places = [axis(size, "place", rank, MADE) for rank, size in enumerate(shape[-2:])]
    return *dims[:-3], axis(shape[-3], "features", weight=MADE), *places


def _norm_of_channels(node: fx.Node, known: Known, shape: Shape) -> Dims:
    dims = _first(node, known)
    read_as(dims[1], "features", 0, SHARED)
    return dims


def _norm_of_last(node: fx.Node, known: Known, shape: Shape) -> Dims:
    dims = _first(node, known)
    if len(_argument(node, 1, "normalized_shape", ())) == 1:
        read_as(dims[-1], "features", 0, SHARED)
    return dims


def _linear(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """Shared by all dimensions but the last, which are the features."""
    dims = _first(node, known)
    read_as(dims[-1], "features", 0, SHARED)
    return *dims[:-1], axis(shape[-1], "features", weight=SHARED)


def _product(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """A matrix product: rows of the one, columns of the other; of a constant matrix, a linear layer's."""
    matrices = [operand for operand in node.args if isinstance(operand, fx.Node)][-2:]
    one, other = (known[matrix] for matrix in matrices)
    if min(len(one), len(other)) < 2:
        return unknown(shape)
    if _constant(other) and other:
        read_as(one[-1], "features", 0, SHARED)
        columns: Dim = axis(shape[-1], "features", weight=SHARED)
    else:
        columns = other[-1]
    rows = one[-2]
    if _constant(one) and one:
        read_as(other[-2], "features", 0, SHARED)
        rows = axis(shape[-2], "features", weight=SHARED)
    outer = []
    for index, size in enumerate(shape[:-2]):
        place = index - len(shape)
        outer.append(agreed([dims[place] for dims in (one, other) if len(dims) >= -place], size))
    return *outer, rows, columns


def _attention(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """The places of the queries, the features of the values."""
    query, _, value = (known[operand] for operand in node.args[:3])  # type: ignore[index]
    return *query[:-1], value[-1]


def _einsum(node: fx.Node, known: Known, shape: Shape) -> Dims:
    equation, operands = node.args[0], node.args[1]
    assert isinstance(equation, str) and isinstance(operands, (list, tuple))
    terms, arrow, result = equation.replace(" ", "").partition("->")
    if "." in equation or not arrow:
        return unknown(shape)
    found: dict[str, list[Dim]] = {}
    for term, operand in zip(terms.split(","), operands, strict=True):
        dims = known[operand]
        for letter, dim in zip(term, dims, strict=True):
            if not _constant((dim,)):
                found.setdefault(letter, []).append(dim)
    return tuple(
        agreed(found[letter], size) if letter in found else axis(size, "features", weight=SHARED)
        for letter, size in zip(result, shape, strict=True)
    )


def _recurrent(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """Over time, one step after the other; the last dimension are the features."""
    dims = _first(node, known)
    if len(dims) != 3:
        return unknown(shape)
    batch_first = bool(node.args[-1])
    read_as(dims[-1], "features", 0, SHARED)
    read_as(dims[1 if batch_first else 0], "place", 0, MADE)
    return *dims[:-1], axis(shape[-1], "features", weight=SHARED)


# moving things ---------------------------------------------------------------------------------------


def _reshape(node: fx.Node, known: Known, shape: Shape) -> Dims:
    return reshape(_first(node, known), shape)


def _permute(node: fx.Node, known: Known, shape: Shape) -> Dims:
    dims = _first(node, known)
    return tuple(dims[_index(place, len(dims))] for place in _argument(node, 1, "dims"))


def _transpose(node: fx.Node, known: Known, shape: Shape) -> Dims:
    dims = list(_first(node, known))
    one, other = (_index(_argument(node, i, f"dim{i - 1}"), len(dims)) for i in (1, 2))
    dims[one], dims[other] = dims[other], dims[one]
    return tuple(dims)


def _move(node: fx.Node, known: Known, shape: Shape) -> Dims:
    dims = _first(node, known)
    sources, targets = (_argument(node, i, name) for i, name in ((1, "source"), (2, "destination")))
    sources, targets = ([x] if isinstance(x, int) else list(x) for x in (sources, targets))
    order = torch.movedim(torch.empty([1] * len(dims), device="meta"), sources, targets)
    assert order.dim() == len(dims)
    where = {_index(t, len(dims)): _index(s, len(dims)) for s, t in zip(sources, targets, strict=True)}
    rest = iter([place for place in range(len(dims)) if place not in where.values()])
    return tuple(dims[where[place] if place in where else next(rest)] for place in range(len(dims)))


def _turn(node: fx.Node, known: Known, shape: Shape) -> Dims:
    return tuple(reversed(_first(node, known)))


def _matrix_turn(node: fx.Node, known: Known, shape: Shape) -> Dims:
    *outer, rows, columns = _first(node, known)
    return *outer, columns, rows


def _unsqueeze(node: fx.Node, known: Known, shape: Shape) -> Dims:
    dims = _first(node, known)
    place = _index(_argument(node, 1, "dim"), len(shape))
    return *dims[:place], axis(1), *dims[place:]


def _squeeze(node: fx.Node, known: Known, shape: Shape) -> Dims:
    dims = _first(node, known)
    asked = _argument(node, 1, "dim", list(range(len(dims))))
    places = {_index(place, len(dims)) for place in ([asked] if isinstance(asked, int) else asked)}
    return tuple(dim for i, dim in enumerate(dims) if i not in places or size_of(dim) != 1)


def _expand(node: fx.Node, known: Known, shape: Shape) -> Dims:
    dims = _first(node, known)
    dims = ((),) * (len(shape) - len(dims)) + dims
    return tuple(
        dim if size_of(dim) == size else axis(size, constant=False)
        for dim, size in zip(dims, shape, strict=True)
    )


def _slice(node: fx.Node, known: Known, shape: Shape) -> Dims:
    dims = list(_first(node, known))
    place = _index(_argument(node, 1, "dim", 0), len(dims))
    size = size_of(dims[place])
    start, stop, step = slice(*(_argument(node, i, n) for i, n in _SLICE)).indices(size)
    dims[place] = cut(dims[place], start, stop) if step == 1 else like(dims[place], shape[place])
    return tuple(dims)


_SLICE = ((2, "start"), (3, "end"), (4, "step"))


def _drop(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """`select` and `unbind`: one entry of a dimension."""
    dims = _first(node, known)
    place = _index(_argument(node, 1, "dim", 0), len(dims))
    return *dims[:place], *dims[place + 1 :]


def _resize(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """The same dimensions, some longer or shorter: padding, chunks, picked entries, repeats."""
    dims = _first(node, known)
    if len(dims) != len(shape):
        return unknown(shape)
    return tuple(
        dim if size_of(dim) == size else like(dim, size) for dim, size in zip(dims, shape, strict=True)
    )


def _picked(*places: int) -> Callable[[Dims, Shape], Dims]:
    """Entries in another order along some dimensions: whose neighbours they are is not known any more."""

    def pick(dims: Dims, shape: Shape) -> Dims:
        moved = {_index(place, len(dims)) for place in places}
        return tuple(
            (axis(size) if meaning(dim)[1] == "place" else like(dim, size)) if index in moved else dim
            for index, (dim, size) in enumerate(zip(dims, shape, strict=True))
        )

    return pick


def _indexed(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """Entries picked along one dimension by a list of indices."""
    indices = _argument(node, 1, "indices")
    places = [place for place, index in enumerate(indices) if index is not None]
    if len(places) != 1 or len(shape_of(indices[places[0]])) != 1:
        return unknown(shape)
    return _picked(*places)(_first(node, known), shape)


def _turned(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """`flip`, `roll` and `index_select`."""
    places = node.args[2 if _name(node) == "roll" else 1] if len(node.args) > 1 else ()
    places = [places] if isinstance(places, int) else list(places)  # type: ignore[call-overload, arg-type]
    return _picked(*(places or range(len(shape))))(_first(node, known), shape)


def _cat(node: fx.Node, known: Known, shape: Shape) -> Dims:
    tensors = [known[operand] for operand in node.args[0]]  # type: ignore[union-attr]
    tensors = [dims for dims in tensors if len(dims) == len(shape)]
    place = _index(_argument(node, 1, "dim", 0), len(shape))
    return tuple(
        joined([dims[index] for dims in tensors], size)
        if index == place
        else agreed([dims[index] for dims in tensors], size)
        for index, size in enumerate(shape)
    )


def _stack(node: fx.Node, known: Known, shape: Shape) -> Dims:
    tensors = [known[operand] for operand in node.args[0]]  # type: ignore[union-attr]
    place = _index(_argument(node, 1, "dim", 0), len(shape))
    rest = [*shape[:place], *shape[place + 1 :]]
    dims = [agreed([one[index] for one in tensors], size) for index, size in enumerate(rest)]
    return *dims[:place], axis(shape[place]), *dims[place:]


def _reduce(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """Sums and the like over some dimensions, which go, or stay with size 1."""
    dims = _first(node, known)
    asked = _argument(node, 2 if "norm" in _name(node) else 1, "dim", None)
    places = range(len(dims)) if asked is None else [asked] if isinstance(asked, int) else asked
    gone = {_index(place, len(dims)) for place in places} if len(list(places)) else {*range(len(dims))}
    kept = len(shape) == len(dims)
    return tuple(() if i in gone else dim for i, dim in enumerate(dims) if kept or i not in gone)


def _item(node: fx.Node, known: Known, shape: Shape) -> Dims:
    """One of several results: the first, or a part of those that are all alike."""
    several = node.args[0]
    assert isinstance(several, fx.Node)
    name = _name(several)
    if name in _SPLITS:
        return _chunk(several, known, int(node.args[1]))  # type: ignore[arg-type]
    return known[several] if node.args[1] == 0 or name == "unbind" else unknown(shape)


_SPLITS = ("split", "split_with_sizes", "chunk", "tensor_split")


def _split(node: fx.Node, known: Known, shape: Shape) -> Dims:
    return _chunk(node, known, 0)


def _chunk(node: fx.Node, known: Known, index: int) -> Dims:
    """One of the chunks that a dimension is split into."""
    dims = list(_first(node, known))
    place = _index(_argument(node, 2, "dim", 0), len(dims))
    sizes = [sizes_of(chunk)[place] for chunk in node.meta["val"]]
    start = sum(sizes[:index])
    dims[place] = cut(dims[place], start, start + sizes[index])
    return tuple(dims)


def _rules(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, Rule] = {
    **_rules(
        _same,
        "alias clone contiguous detach _to_copy to type_as lift_fresh_copy dropout alpha_dropout feature_dropout "
        "native_dropout softmax _softmax log_softmax _log_softmax masked_fill masked_scatter cumsum sort channel_shuffle "
        "_safe_softmax copy l1_norm normalize view_as_real",
    ),
    **_rules(  # place by place as well, without torch's tag
        _place_by_place,
        "hardswish prelu _prelu_kernel rrelu rrelu_with_noise log_sigmoid log_sigmoid_forward where divide "
        "true_divide floor_divide multiply subtract rsub special_expit bernoulli",
    ),
    **_rules(
        _convolution,
        "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution _convolution "
        "_conv_depthwise2d conv_depthwise3d mkldnn_convolution",
    ),
    **{
        f"{kind}{count}d{end}": _window(count)
        for count in (1, 2, 3)
        for kind in (
            "max_pool",
            "avg_pool",
            "lp_pool",
            "reflection_pad",
            "replication_pad",
            "_adaptive_max_pool",
        )
        for end in ("", "_with_indices")
    },
    **{
        f"{kind}{count}d": _to_one_place(count)
        for count in (1, 2, 3)
        for kind in ("adaptive_avg_pool", "_adaptive_avg_pool", "adaptive_max_pool")
    },
    **{
        f"{start}upsample_{kind}{count}d": _window(count)
        for start in ("", "_")
        for kind, counts in {
            "nearest": (1, 2, 3),
            "nearest_exact": (1, 2, 3),
            "nearest-exact": (1, 2, 3),
            "linear": (1,),
            "bilinear": (2,),
            "bicubic": (2,),
            "trilinear": (3,),
        }.items()
        for count in counts
    },
    **_rules(_window(2), "_upsample_bilinear2d_aa _upsample_bicubic2d_aa"),
    **_rules(_pixels, "pixel_shuffle pixel_unshuffle"),
    **_rules(
        _norm_of_channels,
        "batch_norm native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
        "group_norm native_group_norm instance_norm local_response_norm cudnn_batch_norm",
    ),
    **_rules(_norm_of_last, "layer_norm native_layer_norm rms_norm _fused_rms_norm"),
    **_rules(_linear, "linear"),
    **_rules(_product, "matmul mm bmm addmm baddbmm"),
    **_rules(
        _attention,
        "scaled_dot_product_attention _scaled_dot_product_flash_attention "
        "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_efficient_attention "
        "_scaled_dot_product_attention_math",
    ),
    **_rules(_einsum, "einsum"),
    **_rules(_recurrent, "lstm gru rnn_tanh rnn_relu"),
    **_rules(_reshape, "view reshape _unsafe_view flatten unflatten view_as reshape_as _reshape_alias"),
    **_rules(_permute, "permute"),
    **_rules(_transpose, "transpose swapaxes swapdims"),
    **_rules(_move, "movedim moveaxis"),
    **_rules(_turn, "t numpy_T"),
    **_rules(_matrix_turn, "mT adjoint"),
    **_rules(_unsqueeze, "unsqueeze"),
    **_rules(_squeeze, "squeeze"),
    **_rules(_expand, "expand expand_as broadcast_to"),
    **_rules(_slice, "slice"),
    **_rules(_drop, "select unbind"),
    **_rules(
        _resize,
        "pad constant_pad_nd narrow repeat tile slice_scatter select_scatter glu repeat_interleave",
    ),
    **dict.fromkeys(_SPLITS, _split),
    **_rules(_indexed, "index"),
    **_rules(_turned, "flip roll index_select"),
    **_rules(_cat, "cat concat concatenate"),
    **_rules(_stack, "stack"),
    **_rules(
        _reduce, "mean sum amax amin max min var std prod logsumexp norm linalg_vector_norm argmax any all"
    ),
    **_rules(_item, "getitem"),
}
"""The rule of each operation. What is computed place by place is tagged so by torch, and needs no entry."""
