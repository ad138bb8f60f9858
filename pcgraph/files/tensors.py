"""Tensors in safetensors files: written whole or not at all, and read only as they were written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pcgraph.errors import Fault, InputError
from pcgraph.files.seals import damaged
from pcgraph.files.writing import whole_file

SEAL = "sha256"
WITHOUT = ("without values", "quantized", "nested", "sparse")
"""Kinds of tensors that are not dense numbers."""


def save_tensors(tensors: Mapping[str, Tensor], path: Path, *, sealed: bool = False) -> None:
    """Write tensors, whole or not at all; those that share their storage (tied weights) once for each name.

    Args:
        tensors: By name.
        path: The file.
        sealed: Whether the file holds a checksum of its tensors, for `load_sealed`.

    Raises:
        InputError: It cannot be written.
    """
    held = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    with whole_file(path) as partial:
        try:
            save_file(held, partial, metadata={SEAL: tensors_digest(held)} if sealed else None)
        except SafetensorError as error:  # a full disk is one
            raise InputError(Fault(f"cannot be written: {error}", where=str(path))) from None


def load_sealed(path: Path) -> dict[str, Tensor]:
    """Read what `save_tensors` sealed.

    Raises:
        InputError: The file cannot be read, or is not as it was written.
    """
    try:
        with safe_open(path, framework="pt") as file:
            expected = (file.metadata() or {}).get(SEAL)
            held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors raises its own type, and others, for a damaged file
        raise InputError(Fault(f"cannot be read: {error}", where=str(path))) from None
    if expected != tensors_digest(held):
        raise damaged(path)
    return held


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors: their names, types, shapes and bytes."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def kind_of(tensor: Tensor) -> str:
    """What may be copied into what: numbers of one kind, and dense ones with values only."""
    if tensor.is_meta:
        return "without values"
    if tensor.is_quantized:
        return "quantized"
    if tensor.is_nested:
        return "nested"
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.dtype == torch.bool:
        return "boolean"
    if tensor.is_complex():
        return "complex"
    return "floating" if tensor.is_floating_point() else "integer"


def type_of(tensor: Tensor) -> str:
    """The tensor's type, in words."""
    kind, dtype = kind_of(tensor), str(tensor.dtype).removeprefix("torch.")
    return f"{kind} {dtype}" if kind in WITHOUT else dtype
