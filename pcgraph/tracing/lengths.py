"""What Python wants to be a number while a model is read: ``len(x)``, and what is computed of constants."""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Iterator
from typing import Any

from torch import SymInt, Tensor, fx
from torch._subclasses import fake_tensor
from torch.fx.experimental import proxy_tensor

_LENGTH = len


@contextlib.contextmanager
def open_lengths() -> Iterator[None]:
    """Let ``len(x)`` be as open as ``x.shape[0]`` is while a model is read.

    Of a proxy it is recorded, and of a tensor with an open number of images it is that number. Without this,
    it would be refused, or fix how many images there are.
    """
    builtins.len = _length
    try:
        yield
    finally:
        builtins.len = _LENGTH


FEW = 64


@contextlib.contextmanager
def known_constants() -> Iterator[None]:
    """Let a few numbers that a model writes down be known while it is read: ``(tensor(std) == 0).any()``.

    Torch itself keeps the values of tensors of one number only.
    """
    homes: tuple[Any, ...] = (fake_tensor, proxy_tensor)
    before = [home.CONSTANT_NUMEL_LIMIT for home in homes]
    for home in homes:
        home.CONSTANT_NUMEL_LIMIT = FEW
    try:
        yield
    finally:
        for home, limit in zip(homes, before, strict=True):
            home.CONSTANT_NUMEL_LIMIT = limit


def _length(x: Any, /) -> Any:
    if isinstance(x, fx.Proxy):
        return x.tracer.create_proxy("call_function", _LENGTH, (x,), {})
    if isinstance(x, Tensor) and x.ndim and isinstance(x.shape[0], SymInt):
        return x.shape[0]
    return _LENGTH(x)
