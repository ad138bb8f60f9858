"""Whether a layer may be computed in another way than by calling it."""

from __future__ import annotations

from torch import nn


def is_plain(*modules: nn.Module) -> bool:
    """Whether calling each of these modules does no more than its class says.

    Hooks see or change what goes in and out, and some (of pruning, of the older weight norm) make the weight
    itself; so does a ``forward`` that was set on the object. Then the module has to be called.
    """
    return not any(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
        for module in modules
    )
