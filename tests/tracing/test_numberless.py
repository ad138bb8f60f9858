"""Tensors without numbers are what tensors with numbers are, but for the numbers."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor

from pcgraph.tracing.numberless import numberless

ATEN = torch.ops.aten
Form = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]


def forms(tensors: Iterable[Tensor]) -> list[Form]:
    return [(tuple(one.shape), one.stride(), one.dtype) for one in tensors]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((2, 4), torch.contiguous_format),
        ((2, 4, 5), torch.contiguous_format),
        ((2, 4, 5, 6), torch.contiguous_format),
        ((2, 4, 5, 6), torch.channels_last),
        ((2, 4, 3, 5, 6), torch.channels_last_3d),
    ],
)
def test_batch_norms(shape: tuple[int, ...], layout: torch.memory_format, training: bool) -> None:
    given = torch.ones(shape).contiguous(memory_format=layout)
    kept = [torch.ones(4) for _ in range(4)]
    with torch.no_grad():
        real = forms(ATEN.native_batch_norm(given, *kept, training, 0.1, 1e-5))
        with numberless():
            assert forms(ATEN.native_batch_norm(given, *kept, training, 0.1, 1e-5)) == real
            if not training:
                assert forms(ATEN._native_batch_norm_legit_no_training(given, *kept, 0.1, 1e-5)) == real
