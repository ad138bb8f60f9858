"""Tensors by name, as a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from pcgraph.files.writing import whole_file


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors whole or not at all; those that share their storage (tied weights) once for each name."""
    apart = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    with whole_file(path) as partial:
        save_file(apart, partial)
