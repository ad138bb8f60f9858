"""Inputs that are no pictures, and their classes, from files of tensors."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import TensorDataset

from pcgraph.datasets.given import Samples
from pcgraph.errors import Fault, InputError
from pcgraph.files.free_space import memory
from pcgraph.files.tensors import WITHOUT, kind_of, tensors_digest, type_of

TORCH = (".pt", ".pth")
SUFFIXES = (".npy", ".npz", ".safetensors", *TORCH)


def load_tensors(path: Path, shape: Sequence[int]) -> Tensor:
    """Read the inputs in one file, as they are: nothing is resized or normalised.

    Args:
        path: A ``.npy`` file, or a ``.npz``, ``.safetensors`` or ``.pt`` file of one tensor, or of the inputs
            and their classes.
        shape: Of one input of the network.

    Returns:
        (inputs, *shape) in the default floating-point type; of a file of one input, one.

    Raises:
        InputError: The file cannot be read, holds several tensors or whole numbers, or another shape.
    """
    return _inputs_and_labels(path, tuple(shape))[0]


def tensor_data(path: Path, shape: Sequence[int]) -> Samples:
    """The inputs in one file, with their classes where there are any, to train on.

    Args:
        path: See `load_tensors`. The classes are the one tensor of whole numbers (inputs,).
        shape: Of one input of the network.

    Raises:
        InputError: As for `load_tensors`, or there are not as many classes as inputs.
    """
    inputs, labels = _inputs_and_labels(path, tuple(shape))
    parts = {"inputs": inputs} if labels is None else {"inputs": inputs, "labels": labels}
    return Samples(TensorDataset(*parts.values()), tuple(shape), str(path), digest=tensors_digest(parts))


def _inputs_and_labels(path: Path, shape: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
    found = _read(path)
    labels = [name for name, one in found.items() if one.ndim == 1 and _is_whole(one) and one.shape != shape]
    others = [name for name in found if name not in labels]
    if len(found) == 1:
        return _checked(next(iter(found.values())), shape, path), None
    if len(labels) != 1 or len(others) != 1:
        message = f"it holds {len(found)} tensors, expected one of inputs, and perhaps one of their classes"
        hint = f"It has {', '.join(list(found)[:9])}. Inputs are (n, ...), classes whole numbers (n,)."
        raise InputError(Fault(message, hint=hint, where=str(path)))
    inputs, classes = _checked(found[others[0]], shape, path), found[labels[0]].long()
    if len(inputs) != len(classes):
        message = f"it holds {len(inputs)} inputs and {len(classes)} classes: expected as many"
        raise InputError(Fault(message, where=str(path)))
    if len(classes) and int(classes.min()) < 0:
        raise InputError(Fault(f"a class is {int(classes.min())}, expected 0 or more", where=str(path)))
    return inputs, classes


def _is_whole(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def _checked(tensor: Tensor, wanted: tuple[int, ...], path: Path) -> Tensor:
    if tuple(tensor.shape) == wanted:
        tensor = tensor.unsqueeze(0)
    if tuple(tensor.shape[1:]) != wanted or not len(tensor):
        message = f"it holds shape {tuple(tensor.shape)}, the network's input has {wanted}"
        raise InputError(
            Fault(message, hint="Give one input of that shape, or several: (n, ...).", where=str(path))
        )
    if not tensor.is_floating_point():
        message = f"it holds {str(tensor.dtype).removeprefix('torch.')}, expected floating-point numbers"
        raise InputError(
            Fault(message, hint="Save it as float32, scaled as the network wants it.", where=str(path))
        )
    tensor = tensor.to(torch.get_default_dtype())
    if not torch.isfinite(tensor).all():
        raise InputError(Fault("it holds numbers that are not finite", where=str(path)))
    return tensor


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors in a file, by name, or by place where they have none."""
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        _check_unpacked(path)
        if path.suffix.lower() in TORCH:
            return _named(torch.load(path, map_location="cpu", weights_only=True))
        loaded = np.load(path, allow_pickle=False)
        arrays = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded.items())
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    except Exception as error:  # each format has its own errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(Fault(f"no file of tensors that can be read: {reason}", where=str(path))) from None


def _check_unpacked(path: Path) -> None:
    """Refuse an archive that would fill the memory, before anything in it is read."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        size = sum(record.file_size for record in archive.infolist())
    held = path.stat().st_size
    if path.suffix.lower() in TORCH and size > held:
        raise ValueError(
            f"{held / 1e6:,.0f} MB would become {size / 1e6:,.0f} MB; torch.save compresses none"
        )
    if size > memory():
        raise ValueError(f"it would become {size / 1e6:,.0f} MB, more than this machine's memory")


def _named(value: Any) -> dict[str, Tensor]:
    parts: Iterable[tuple[Any, Any]] = [("", value)]
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, (list, tuple)):
        parts = enumerate(value)
    named = {str(name): part for name, part in parts}
    for name, part in named.items():
        if not isinstance(part, Tensor):
            raise TypeError(f"'{name}' is a {type(part).__name__}, expected a tensor")
        if kind_of(part) in WITHOUT:
            raise TypeError(f"it holds a tensor that is {type_of(part)}, expected a dense one")
    return named
