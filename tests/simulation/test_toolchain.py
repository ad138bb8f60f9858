"""Why something was not compiled, in a line that says it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx

from pcgraph.simulation.toolchain import reason_of


def fails(function: Any, backend: Any = "eager") -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        torch.compile(function, backend=backend, fullgraph=True)(torch.ones(2))
    assert isinstance(caught.value, Exception)
    return reason_of(caught.value)


def test_an_error_of_what_is_traced_is_told() -> None:
    def broken(x: Tensor) -> Tensor:
        raise ValueError("the predictor is broken")

    assert fails(broken) == "ValueError('the predictor is broken')"


def test_an_error_of_a_backend_is_told() -> None:
    def backend(program: fx.GraphModule, examples: list[Tensor]) -> Any:
        raise NotImplementedError("no such storage")

    assert fails(lambda x: x + 1, backend) == "NotImplementedError: no such storage"


def test_of_an_error_without_words_its_type_is_told() -> None:
    assert reason_of(MemoryError()) == "MemoryError"
