"""``len(x)`` of a stand-in for a tensor, which Python wants to be a number."""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Iterator
from typing import Any

from torch import SymInt, Tensor, fx

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


def _length(x: Any, /) -> Any:
    if isinstance(x, fx.Proxy):
        return x.tracer.create_proxy("call_function", _LENGTH, (x,), {})
    if isinstance(x, Tensor) and x.ndim and isinstance(x.shape[0], SymInt):
        return x.shape[0]
    return _LENGTH(x)
