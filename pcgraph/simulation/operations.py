"""What a function does to tensors, operation by operation, as a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

LARGE = 2**25
"""Bytes from which on a matrix is lent."""


class UnfitError(Exception):
    """Something about a function that no package can hold."""


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation while a function runs: what it is, its numbers, which tensors go in and come out.

    A tensor that is neither given nor made on the way is a constant, and its numbers are noted, too. So
    functions of the same digest compute the same of whatever they are given, unless they look at numbers:
    let them run on tensors that have none (`FakeTensorMode`).

    Of one image, large matrices are lent: their numbers are not noted, as they are to be arguments of what is
    made of the function. Products of more images are faster (twice, of eight) with matrices that are packed.

    Args:
        given: The function's arguments.

    Attributes:
        lent: Constants that are, in the order in which they first come.

    Raises:
        UnfitError: On the way: the function draws random numbers.
    """

    def __init__(self, given: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._noted = hashlib.sha256()
        self._names: Any = WeakTensorKeyDictionary()
        self._held: list[Tensor] = []
        self.lent: list[Tensor] = []
        self._of_one = all(tensor.dim() == 0 or len(tensor) == 1 for tensor in given)
        self._made = 0
        for tensor in given:
            self._hold(tensor, "given")

    @property
    def digest(self) -> bytes:
        """Of all that was noted."""
        return self._noted.digest()

    def name(self, tensor: Tensor) -> str:
        """What a tensor is called in the notes; one that was not seen before is a constant."""
        if tensor not in self._names:
            if self._of_one and tensor.dim() == 2 and tensor.nbytes >= LARGE:
                self._hold(tensor, "lent")
                self.lent.append(tensor)
                return str(self._names[tensor])
            self._hold(tensor, "constant")
            with _disable_current_modes():
                numbers = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
            self._noted.update(numbers.data)
        return str(self._names[tensor])

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:  # as noted for what is given and constant
            return func(*args)
        named = tree_map_only(Tensor, self.name, (args, kwargs))
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise UnfitError("it draws random numbers")
        self._noted.update(repr((str(func), named)).encode())
        results = func(*args, **kwargs)
        for tensor in tree_leaves(results):
            if isinstance(tensor, Tensor) and tensor not in self._names:
                self._names[tensor] = f"made {self._made}"
                self._made += 1
        return results

    def _hold(self, tensor: Tensor, kind: str) -> None:
        self._names[tensor] = f"{kind} {len(self._held)}"
        self._held.append(tensor)
        layout = (tuple(tensor.shape), tensor.stride(), tensor.dtype, str(tensor.device))
        self._noted.update(repr(layout).encode())
