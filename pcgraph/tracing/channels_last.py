"""Whether a model is faster, and computes the same, when its maps lie channels-last in memory."""

from __future__ import annotations

import math

from torch import fx, nn

MODULES = ("conv", "batchnorm", "activation", "pooling", "dropout", "linear", "flatten", "container")
"""Files of ``torch.nn.modules`` whose layers take maps however they lie."""
BLOCKS = {"Conv2dNormActivation", "SqueezeExcitation", "StochasticDepth", "FrozenBatchNorm2d"}
"""Blocks of torchvision's that do, too."""
FUNCTIONS = {
    *("add", "mul", "cat", "flatten", "mean", "relu", "relu6", "silu", "hardswish", "hardsigmoid", "sigmoid"),
    *("adaptive_avg_pool2d", "avg_pool2d", "max_pool2d", "boolean_dispatch", "dropout"),
}
"""Functions, and methods of tensors, that do; a ``view`` does not."""


def is_depthwise(model: nn.Module, graph: fx.Graph) -> bool:
    """Whether most of its large convolutions are depthwise, and it has nothing that asks how maps lie.

    On a processor depthwise convolutions are faster channels-last; others are so in some models alone.

    Args:
        model: With the modules that the graph calls.
        graph: What was traced.
    """
    called = [model.get_submodule(str(node.target)) for node in graph.nodes if node.op == "call_module"]
    every = [module for one in called for module in one.modules()]
    if not all(map(_takes_any_layout, every)) or not all(map(_reads_no_strides, graph.nodes)):
        return False
    large = [one for one in every if isinstance(one, nn.Conv2d) and math.prod(one.kernel_size) > 1]
    depthwise = [one for one in large if one.groups == one.in_channels > 1]
    return len(depthwise) > len(large) / 2


def _takes_any_layout(module: nn.Module) -> bool:
    package, _, file = type(module).__module__.rpartition(".")
    own = package == "torch.nn.modules" and file in MODULES
    block = package.startswith("torchvision.ops") and type(module).__name__ in BLOCKS
    return own or block or isinstance(module, (nn.Conv2d, nn.BatchNorm2d))


def _reads_no_strides(node: fx.Node) -> bool:
    if node.op == "call_function":
        return getattr(node.target, "__name__", "") in FUNCTIONS
    if node.op == "call_method":
        return node.target in FUNCTIONS
    return node.op in ("placeholder", "call_module", "output")
