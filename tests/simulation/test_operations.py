"""The digest of what a function does: the same for the same function alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException

from pcgraph.simulation.operations import Operations, UnfitError

WEIGHT, COPY = torch.arange(6.0).view(2, 3), torch.arange(6.0).view(2, 3)


def digest(function: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...] = (4, 3)) -> tuple[str, str]:
    """Of a function of two tensors, and what its result is called."""
    shapes = FakeTensorMode(allow_non_fake_inputs=True)
    given = [shapes.from_tensor(torch.empty(shape)) for _ in range(2)]
    operations = Operations(given)
    with torch.no_grad(), shapes, operations:
        result = function(*given)
    return operations.digest.hex(), operations.name(result)


def same(x: Tensor, y: Tensor) -> Tensor:
    return torch.relu(x @ WEIGHT.T) - (y * 0.5).sum()


def test_it_is_the_same_again_and_in_other_words() -> None:
    assert digest(same) == digest(same)
    assert digest(same) == digest(lambda a, b: torch.relu(a @ COPY.T) - (b * 0.5).sum())


@pytest.mark.parametrize(
    "other",
    [
        lambda x, y: torch.relu(x @ WEIGHT.T) - (y * 0.5000001).sum(),  # a number
        lambda x, y: torch.relu(x @ (WEIGHT + 0).T) - (y * 0.5).sum(),  # one operation more
        lambda x, y: torch.relu(x @ OTHER.T) - (y * 0.5).sum(),  # another weight
        lambda x, y: torch.relu(x @ WEIGHT.T) - (x * 0.5).sum(),  # another argument
        lambda x, y: torch.relu(y @ WEIGHT.T) - (x * 0.5).sum(),  # exchanged
        lambda x, y: torch.relu(x @ WEIGHT.T) - (y * 0.5).mean(),  # another operation
        lambda x, y: torch.relu(x @ ROWS.T) - (y * 0.5).sum(),  # laid out in another way
    ],
)
def test_it_is_another_for_another_function(other: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert digest(other)[0] != digest(same)[0]


OTHER = torch.arange(6.0).view(2, 3).index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(5.0000005))
ROWS = torch.arange(6.0).view(2, 3).T.contiguous().T


def test_it_is_another_for_other_shapes() -> None:
    assert digest(same)[0] != digest(same, (5, 3))[0]


def test_results_have_names_of_their_own() -> None:
    assert digest(lambda x, y: [x + 1, y + 1][0]) != digest(lambda x, y: [x + 1, y + 1][1])
    assert digest(lambda x, y: x)[1] != digest(lambda x, y: y)[1]
    assert digest(lambda x, y: WEIGHT)[0] == digest(lambda x, y: x)[0]  # nothing was done
    assert digest(lambda x, y: WEIGHT)[1].startswith("constant")


def test_names_do_not_pass_to_who_comes_after() -> None:
    """A constant that takes the place of a tensor that is gone is not taken for it."""

    def with_constant(value: float) -> Callable[[Tensor, Tensor], Tensor]:
        def function(x: Tensor, y: Tensor) -> Tensor:
            for _ in range(50):
                x = x + 1  # the one before is gone
            hidden = WEIGHTS[value].data  # a new object, made by no operation
            return x @ hidden.T

        return function

    found = {digest(with_constant(value))[0] for value in WEIGHTS for _ in range(3)}
    assert len(found) == len(WEIGHTS)


WEIGHTS = {value: torch.full((2, 3), value) for value in (1.0, 2.0)}


def test_random_numbers_are_refused() -> None:
    with pytest.raises(UnfitError, match="random"):
        digest(lambda x, y: x + torch.randn_like(y))


def test_looking_at_numbers_is_refused() -> None:
    with pytest.raises(DataDependentOutputException):
        digest(lambda x, y: x if x.sum().item() > 0 else y)
