"""Which rule each ATen operation has for the axes of its result."""

from __future__ import annotations

import torch
from torch import fx

from pcgraph.tracing.axes import Dims, size_of, unknown
from pcgraph.tracing.axes_of_layers import (
    attention,
    blocks,
    convolution,
    einsum,
    linear,
    norm_of_channels,
    norm_of_last,
    pixels,
    place_by_place,
    product,
    recurrent,
    same,
    sampled,
    spectrum,
    to_one_place,
    window,
)
from pcgraph.tracing.axes_of_moves import (
    SPLITS,
    concatenated,
    dropped,
    expanded,
    indexed,
    item,
    matrix_turn,
    moved,
    permuted,
    put,
    reduced,
    reshaped,
    resized,
    sliced,
    split,
    squeezed,
    stacked,
    transposed,
    turned,
    turned_around,
    unsqueezed,
)
from pcgraph.tracing.operands import Known, Rule, is_constant, name_of, shape_of


def apply_rule(node: fx.Node, known: Known) -> Dims:
    """The dimensions of what an operation computes; new ones where it has no rule."""
    shape = shape_of(node)
    operands = [known[operand] for operand in node.all_input_nodes]
    constant = bool(operands) and all(is_constant(dims) for dims in operands)
    if constant or name_of(node) in NUMBERS:
        return unknown(shape, constant=True)
    rule = RULES.get(name_of(node))
    if rule is None and isinstance(node.target, torch._ops.OpOverload):
        rule = place_by_place if torch.Tag.pointwise in node.target.tags else None
    dims = unknown(shape) if rule is None else rule(node, known, shape)
    return dims if tuple(map(size_of, dims)) == shape else unknown(shape)


NUMBERS = ("arange", "linspace", "logspace", "eye")
"""What is made of no tensor, and is not there to be written into, as zeros may be."""


def _rules(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, Rule] = {
    **_rules(
        same,
        "alias clone contiguous detach _to_copy to type_as lift_fresh_copy dropout alpha_dropout "
        "feature_dropout native_dropout softmax _softmax log_softmax _log_softmax _safe_softmax "
        "masked_fill masked_scatter cumsum channel_shuffle fake_quantize_per_tensor_affine "
        "fake_quantize_per_channel_affine fused_moving_avg_obs_fake_quant "
        "_fused_moving_avg_obs_fq_helper _fused_moving_avg_obs_fq_helper_functional",
    ),
    **_rules(  # place by place as well, without torch's tag
        place_by_place,
        "hardswish prelu _prelu_kernel rrelu rrelu_with_noise log_sigmoid log_sigmoid_forward where divide "
        "true_divide floor_divide multiply subtract rsub special_expit bernoulli",
    ),
    **_rules(
        convolution,
        "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution _convolution "
        "_conv_depthwise2d conv_depthwise3d mkldnn_convolution deform_conv2d",
    ),
    **{
        f"{kind}{count}d{end}": window(count)
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
        f"{kind}{count}d": to_one_place(count)
        for count in (1, 2, 3)
        for kind in ("adaptive_avg_pool", "_adaptive_avg_pool", "adaptive_max_pool")
    },
    **{
        f"{start}upsample_{kind}{count}d": window(count)
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
    **_rules(window(2), "_upsample_bilinear2d_aa _upsample_bicubic2d_aa"),
    **_rules(pixels, "pixel_shuffle pixel_unshuffle"),
    **_rules(blocks, "im2col"),
    **_rules(sampled, "grid_sampler grid_sampler_2d grid_sampler_3d"),
    **_rules(spectrum, "stft"),
    **_rules(
        norm_of_channels,
        "batch_norm native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
        "group_norm native_group_norm instance_norm local_response_norm cudnn_batch_norm",
    ),
    **_rules(norm_of_last, "layer_norm native_layer_norm rms_norm _fused_rms_norm"),
    **_rules(linear, "linear"),
    **_rules(product, "matmul mm bmm addmm baddbmm"),
    **_rules(
        attention,
        "scaled_dot_product_attention _scaled_dot_product_flash_attention "
        "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_efficient_attention "
        "_scaled_dot_product_attention_math",
    ),
    **_rules(einsum, "einsum"),
    **_rules(recurrent, "lstm gru rnn_tanh rnn_relu"),
    **_rules(reshaped, "view reshape _unsafe_view flatten unflatten view_as reshape_as _reshape_alias"),
    **_rules(permuted, "permute"),
    **_rules(transposed, "transpose swapaxes swapdims"),
    **_rules(moved, "movedim moveaxis"),
    **_rules(turned_around, "t numpy_T"),
    **_rules(matrix_turn, "mT adjoint"),
    **_rules(unsqueezed, "unsqueeze"),
    **_rules(squeezed, "squeeze"),
    **_rules(expanded, "expand expand_as broadcast_to"),
    **_rules(sliced, "slice"),
    **_rules(dropped, "select unbind"),
    **_rules(
        resized,
        "pad constant_pad_nd narrow repeat tile slice_scatter select_scatter glu repeat_interleave",
    ),
    **dict.fromkeys(SPLITS, split),
    **_rules(indexed, "index"),
    **_rules(put, "index_put _index_put_impl_"),
    **_rules(turned, "flip roll index_select"),
    **_rules(concatenated, "cat concat concatenate"),
    **_rules(stacked, "stack"),
    **_rules(
        reduced, "mean sum amax amin max min var std prod logsumexp norm linalg_vector_norm argmax any all"
    ),
    **_rules(item, "getitem"),
}
"""The rule of each operation. What is computed place by place is tagged so by torch, and needs no entry."""
