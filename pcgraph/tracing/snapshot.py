"""What a model keeps in its attributes, so that a run of its forward leaves no trace."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

CONTAINERS = (dict, OrderedDict, list, set)
TABLES = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")


class Snapshot:
    """The attributes and buffers of a model's modules at one moment.

    Args:
        root: The model.
    """

    def __init__(self, root: nn.Module) -> None:
        self._root = root
        self._attributes = {name: (module, dict(vars(module))) for name, module in root.named_modules()}
        self._contents = [
            (value, value.copy())
            for _, attributes in self._attributes.values()
            for value in attributes.values()
            if type(value) in CONTAINERS
        ]
        self._buffers = {id(buffer): (buffer, buffer.detach().clone()) for buffer in root.buffers()}

    def lend_buffers(self) -> None:
        """Let the model write into copies of its buffers until it is restored."""
        lent = {key: kept.clone() for key, (_, kept) in self._buffers.items()}
        for module in self._root.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = lent[id(buffer)]

    def changed(self, among: Collection[nn.Module]) -> str | None:
        """A buffer of the model, or an attribute of a module in ``among``, that has another value now."""
        for name, buffer in self._root.named_buffers():
            if id(buffer) not in self._buffers or not _same(*self._buffers[id(buffer)]):
                return name
        for name, (module, kept) in self._attributes.items():
            if module in among:
                for key, value in vars(module).items():
                    if key not in TABLES and not (key in kept and _equal(kept[key], value)):
                        return f"{name}.{key}"
        return None

    def restore(self, *, but: Callable[[str], bool] = lambda name: False) -> None:
        """Undo what was changed, ``but`` for the attributes of these names."""
        for module, attributes in self._attributes.values():
            new = {key: value for key, value in vars(module).items() if but(key)}
            vars(module).clear()
            vars(module).update({**attributes, **new})
        for container, content in self._contents:
            container.clear()
            container.extend(content) if isinstance(container, list) else container.update(content)
        with torch.no_grad():
            for buffer, before in self._buffers.values():
                if not _same(buffer, before):
                    buffer.copy_(before)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.is_meta or torch.equal(one, other) or torch.allclose(one, other, 0, 0, equal_nan=True)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return one is other
    try:
        return one is other or bool(one == other)
    except Exception:  # whatever a foreign comparison may raise
        return False
