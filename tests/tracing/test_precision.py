"""Where a model computes in another type than its weights, its states keep the type of the weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.errors import SpecError

SHAPE = (3, 16, 16)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1, stride=2)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).relu()).relu()
        y: Tensor = self.head(x.mean((2, 3)))
        return y


class Everything(Net):
    @torch.autocast("cpu", dtype=torch.bfloat16)
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).float()


class OutputToo(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x)


class OneLayer(Net):
    def __init__(self) -> None:
        super().__init__()
        self.second.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).relu().bfloat16()).relu()
        y: Tensor = self.head(x.float().mean((2, 3)))
        return y


class Asks(Everything):
    """Read by `torch.export`."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != 3:
            raise ValueError
        return super().forward(x)


def spec(order: str = "synchronous", **nodes: str) -> dict[str, Any]:
    return {
        "name": "net",
        "backbone": {"input": list(SHAPE)},
        "nodes": nodes,
        "feedback": "chain",
        "dynamics": {
            "rule": "predify",
            "feedforward": 0.5,
            "feedback": 0.1,
            "error": 0.01,
            "gradient": "sum",
        },
        "schedule": {"steps": 2, "order": order},
    }


@pytest.mark.parametrize("order", ["synchronous", "sweep"])
@pytest.mark.parametrize(
    ("kind", "low"), [(Everything, True), (OutputToo, True), (OneLayer, False), (Asks, True)]
)
def test_states_have_the_type_of_the_weights(kind: type[Net], low: bool, order: str) -> None:
    model = kind().eval()
    nodes = {"e1": "first", "e2": "second"} if low else {"e2": "second"}
    nodes = (
        {"e1": "conv2d", "e2": "conv2d_1"} if kind is Asks else nodes
    )  # in autocast, modules are not known
    network = pcg.build(spec(order, **nodes), model=model)
    image = torch.randn(3, *SHAPE)
    with torch.no_grad():
        expected, first = model(image), model.first(image)
    run = pcg.Scheduler(network).run(image, steps=2, record=["output", "values"])
    assert torch.equal(run.output[0], expected)
    assert run.output[0].dtype == expected.dtype
    assert {value.dtype for values in run.values.values() for value in values} == {torch.float32}
    assert not torch.equal(run.output[2], expected)
    if kind is Everything:  # rounded once, by the model itself
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
            assert torch.equal(run.values["e1"][0], model.first(image).float())
        assert not torch.equal(run.values["e1"][0], first)


class Indices(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return x.mean((2, 3)) + x.flatten(2).argmax(2)


class Spectrum(Net):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft2(self.first(x)).abs().mean((2, 3))


class Finer(Net):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.first(x).double().exp().mean((2, 3)).float())
        return y


@pytest.mark.parametrize(
    ("kind", "place", "dtype"),
    [(Indices, "argmax", "int64"), (Spectrum, "fft_rfft2", "complex64"), (Finer, "exp", "float64")],
)
def test_other_numbers_are_no_states(kind: type[Net], place: str, dtype: str) -> None:
    table = pcg.trace(kind().eval(), SHAPE)
    assert not table[place].usable
    assert table["first"].usable
    with pytest.raises(SpecError, match=f"is of type {dtype}, and states .* float32"):
        pcg.build(spec(e1=place), model=kind())
    pcg.build(spec(e1="first"), model=kind())
