"""Inputs that are no pictures, from files of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from pcgraph.errors import Fault, InputError

SUFFIXES = (".npy", ".npz", ".safetensors")


def load_tensors(path: Path, shape: Sequence[int]) -> Tensor:
    """Read the inputs in one file, as they are: nothing is resized or normalised.

    Args:
        path: A ``.npy`` file, or a ``.npz`` or ``.safetensors`` file of one tensor.
        shape: Of one input of the network.

    Returns:
        (inputs, *shape) in the default floating-point type; of a file of one input, one.

    Raises:
        InputError: The file cannot be read, holds several tensors or whole numbers, or another shape.
    """
    tensor = _read(path)
    wanted = tuple(shape)
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


def _read(path: Path) -> Tensor:
    try:
        if path.suffix.lower() == ".safetensors":
            tensors = list(load_file(path).values())
        else:
            loaded = np.load(path, allow_pickle=False)
            arrays = [loaded] if isinstance(loaded, np.ndarray) else list(loaded.values())
            tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    except Exception as error:  # each format has its own errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(Fault(f"no file of tensors that can be read: {reason}", where=str(path))) from None
    if len(tensors) != 1:
        message = f"it holds {len(tensors)} tensors, expected one"
        raise InputError(Fault(message, hint="Save the inputs as one tensor (n, ...).", where=str(path)))
    return tensors[0]
