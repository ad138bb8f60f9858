"""The one tensor of a model's output that is the network's output."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pcgraph.errors import Fault, ModelError, closest

Path = tuple[str, ...]


def plain(value: Any) -> Any:
    """An output as nothing but dicts, lists and tuples: fields of data classes become keys."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(zip(value._fields, map(plain, value), strict=True))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value)) if type(value) in (list, tuple) else list(map(plain, value))
    return value


def follow(value: Any, path: Path) -> Any:
    """The part of a plain output at ``path``."""
    for key in path:
        value = value[key] if isinstance(value, dict) else value[int(key)]
    return value


def choose(output: Any, shape_of: Callable[[Any], tuple[int, ...] | None], wanted: str | None) -> Path:
    """Where in a plain output the network's output is.

    Args:
        output: A plain output.
        shape_of: The shape of a part of it without the batch; None for what is no tensor.
        wanted: Its name: a key, a field, or a place in a tuple; dotted where it lies deeper. Left out:
            the first tensor of shape (batch, classes), or else the first tensor.

    Raises:
        ModelError: There is no such part, or no tensor at all.
    """
    if wanted is None and not isinstance(output, (dict, list, tuple)):
        return ()
    tensors = {path: shape for path, part in _leaves(output) if (shape := shape_of(part)) is not None}
    names = [".".join(path) for path in tensors if path]
    if wanted is not None:
        inside = [path for path in tensors if f"{'.'.join(path)}.".startswith(f"{wanted}.")]
        if not inside:
            has = closest(wanted, names) if names else "Its output is one tensor: leave 'output' out."
            raise ModelError(Fault(f"the model gives no tensor '{wanted}'", ("output",), has))
        tensors = {path: tensors[path] for path in inside}
    if not tensors:
        raise ModelError("the model gives no tensor with a batch in front")
    return next((path for path, shape in tensors.items() if len(shape) == 1), next(iter(tensors)))


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        parts: Any = value.items()
    elif isinstance(value, (list, tuple)):
        parts = enumerate(value)
    else:
        yield path, value
        return
    for key, part in parts:
        yield from _leaves(part, (*path, str(key)))
