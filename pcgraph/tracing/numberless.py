"""Tensors without numbers: functions run on them to show what they do, not what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

_EVALUATING = torch.ops.aten._native_batch_norm_legit_no_training.default
_EITHER = torch.ops.aten.native_batch_norm.default
_TRAINING = 5
"""Place of the argument that says which."""


@contextmanager
def numberless() -> Iterator[FakeTensorMode]:
    """New tensors have no numbers; those that are there already may take part."""
    batch_norms = _BatchNorms()  # type: ignore[no-untyped-call]
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, batch_norms:
        yield mode


def has_numbers(tensor: Tensor) -> bool:
    """Whether a tensor's numbers can be looked at: it is no stand-in, and nobody compiles what uses it.

    Unlike ``torch.compiler.is_compiling``, which all threads share, it knows nothing of what others compile.
    """
    return not (torch.compiler.is_dynamo_compiling() or isinstance(tensor, FakeTensor))


class _BatchNorms(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """In eval mode the result is like the input, and what training would hand over is empty, on processors.

    That is what torch finds, too, in ten operations that take milliseconds.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        evaluating = func is _EVALUATING or (func is _EITHER and not args[_TRAINING])
        if not evaluating or args[0].device.type != "cpu":
            return func(*args, **(kwargs or {}))
        return torch.empty_like(args[0]), args[0].new_empty(0), args[0].new_empty(0)
