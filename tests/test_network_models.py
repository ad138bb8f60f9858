"""Whole networks on models as they come: types, outputs, constants."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.errors import ModelError

SPEC: dict[str, Any] = {
    "name": "net",
    "backbone": {"input": [3, 8, 8]},
    "nodes": {"e1": "conv"},
    "feedback": "to_input",
    "schedule": {"order": "sweep", "steps": 2},
}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor, scale: float = 1.0) -> Any:
        x = torch.relu(self.conv(x))
        return {
            "features": x,
            "logits": self.head(x.mean((2, 3))) * scale,
            "twice": self.head(x.amax((2, 3))),
        }


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_everything_has_the_type_of_the_backbone(dtype: torch.dtype) -> None:
    model = Net().to(dtype).eval()
    network = pcg.build(pcg.parse_spec(SPEC), model=model)
    assert {parameter.dtype for parameter in network.parameters()} == {dtype}
    image = torch.randn(2, 3, 8, 8, dtype=dtype)
    run = pcg.Scheduler(network).run(image, steps=2, record=["output", "values"])
    with torch.no_grad():
        assert torch.equal(run.output[0], model(image)["logits"])
    assert run.values["e1"][2].dtype == dtype
    assert run.values["e1"][2].isfinite().all()


def test_output_and_constants_of_the_spec() -> None:
    model = Net().eval()
    backbone = {"input": [3, 8, 8], "output": "twice", "arguments": {"scale": 3.0}}
    image = torch.randn(2, 3, 8, 8)
    expected = model(image, scale=3.0)
    for wanted in ("twice", "logits"):
        spec = pcg.parse_spec({**SPEC, "backbone": {**backbone, "output": wanted}})
        run = pcg.Scheduler(pcg.build(spec, model=model)).run(image, steps=0)
        assert torch.equal(run.output[0], expected[wanted])
    spec = pcg.parse_spec({**SPEC, "backbone": {**backbone, "output": "none"}})
    with pytest.raises(ModelError, match="gives no tensor 'none'") as caught:
        pcg.build(spec, model=model)
    assert caught.value.faults[0].path == ("backbone", "output")


def test_verification_can_be_left_out() -> None:
    class Counting(Net):
        calls = 0

        def forward(self, x: Tensor, scale: float = 1.0) -> Any:
            Counting.calls += 1
            return super().forward(x + Counting.calls, scale)["logits"]

    spec = pcg.parse_spec(SPEC)
    with pytest.raises(ModelError, match="differs from Counting itself"):
        pcg.build(spec, model=Counting())
    pcg.build(spec, model=Counting(), verify=False)
