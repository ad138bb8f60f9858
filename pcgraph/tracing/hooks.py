"""Hooks on a model's modules: those that compute are a part of the model, those that only look are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pcgraph.tracing.copying import HOOKS
from pcgraph.tracing.shapes import like_weights
from pcgraph.tracing.snapshot import Snapshot


def drop_observers(root: nn.Module, input_shape: tuple[int, ...], constants: Mapping[str, Any]) -> None:
    """Take the hooks off ``root`` that only look; they would see stand-ins, or every step of a run.

    The model is run once, on one image, if it has any hooks. A hook only looks if it returns nothing,
    changes no tensor that it is given, and sets nothing on its module.
    """
    watched = [_Watched(module, name, key) for module, name, key in _hooks(root)]
    if not watched:
        return
    dtype, device = like_weights(root)
    before = Snapshot(root)
    for hook in watched:
        hook.table[hook.key] = hook
    try:
        with torch.no_grad():
            root(torch.zeros((1, *input_shape), dtype=dtype, device=device), **constants)
    except Exception:  # reading the model will say so, with its place
        for hook in watched:
            hook.computes = True
    finally:
        before.restore()
        for hook in watched:
            hook.table[hook.key] = hook.function
            if not hook.computes:
                hook.remove()


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

    def remove(self) -> None:
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
