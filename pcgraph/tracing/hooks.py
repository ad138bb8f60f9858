"""Hooks on a model's modules: those that compute are a part of the model, those that only look are not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pcgraph.tracing.copying import HOOKS
from pcgraph.tracing.shapes import like_weights
from pcgraph.tracing.verify import Model, close, equal, forth_and_back, seeded


def drop_observers(model: Model, input_shape: tuple[int, ...]) -> None:
    """Take the hooks off a model that only look; they would see stand-ins, or every step of a run.

    A hook only looks if it returns nothing, changes no tensor that it is given, sets nothing on its module,
    and the model's output and gradient are the same without it. A model with hooks is run on one image.
    """
    hooks = [_Watched(module, name, key) for module, name, key in _hooks(model.root)]
    if not hooks:
        return
    dtype, device = like_weights(model.root)
    image = torch.randn((1, *input_shape), generator=torch.Generator().manual_seed(0)).to(device, dtype)
    for hook in hooks:
        hook.set(hook)
    before = _run(model, image)
    for hook in hooks:
        hook.set(hook.function)
    if before is None:  # reading the model will say so, with its place
        return
    looking = [hook for hook in hooks if not hook.computes]
    for group in (looking, *([hook] for hook in looking)):
        for hook in group:
            hook.set(_nothing)
        if _same(before, _run(model, image)):
            if group is looking:
                break
        else:
            for hook in group:
                hook.set(hook.function)
    for hook in looking:
        hook.remove_if(_nothing)


Ran = tuple[Tensor, Tensor | None]
"""A model's output, and its gradient where there is one."""


def _run(model: Model, image: Tensor) -> Ran | None:
    """None where the model cannot be run; hooks may read numbers off a tensor, which gradients forbid."""
    gradient = None
    try:
        with torch.no_grad(), seeded(6):
            output = model(image)
    except Exception:
        return None
    with contextlib.suppress(Exception), seeded(6):
        gradient = forth_and_back(model, image)[1]
    return output, gradient


def _same(one: Ran, other: Ran | None) -> bool:
    if other is None or not equal(other[0], one[0]):
        return False
    return one[1] is None or close(other[1], one[1])


def _nothing(*_: Any) -> None:
    """A hook that does nothing."""


def _hooks(root: nn.Module) -> Iterator[tuple[nn.Module, str, int]]:
    for module in root.modules():
        for name in HOOKS:
            for key in vars(module)[name]:
                yield module, name, key


class _Watched:
    """A hook that is called as before, and watched."""

    def __init__(self, module: nn.Module, table: str, key: int) -> None:
        self.module = module
        self.table: dict[int, Callable[..., Any]] = vars(module)[table]
        self.key = key
        self.function = self.table[key]
        self.computes = False

    def __call__(self, *given: Any) -> Any:
        attributes = dict(vars(self.module))
        tensors = list(_tensors(given))
        versions = [tensor._version for tensor in tensors]
        result = self.function(*given)
        after = vars(self.module)
        self.computes |= (
            result is not None
            or versions != [tensor._version for tensor in tensors]
            or attributes.keys() != after.keys()
            or any(attributes[name] is not after[name] for name in after)
        )
        return result

    def set(self, function: Callable[..., Any]) -> None:
        """Let a function be called in its place."""
        self.table[self.key] = function

    def remove_if(self, function: Callable[..., Any]) -> None:
        """Take it off if this is called in its place."""
        if self.table[self.key] is not function:
            return
        del self.table[self.key]
        for name, value in vars(self.module).items():  # which hooks take keywords, or are always called
            if name.startswith(("_forward_hooks_", "_forward_pre_hooks_")) and isinstance(value, dict):
                value.pop(self.key, None)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
