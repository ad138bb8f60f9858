"""Models that keep what they compute, or ask for values of their own, while they are read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import pcgraph as pcg
from pcgraph.errors import ModelError
from pcgraph.tracing.layout import operations
from pcgraph.tracing.shapes import propagate


class InBuffer(nn.Module):
    """Keeps a mask of the size that it has seen in a buffer, as attention with relative positions does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.kept.shape[0] != x.shape[-1]:
            self.kept = torch.arange(x.shape[-1], dtype=x.dtype)
        return x + self.kept


class InAttribute(nn.Module):
    kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = torch.arange(x.shape[-1], dtype=x.dtype)
        return x + self.kept


class InDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] not in self.kept:
            self.kept[x.shape[-1]] = torch.arange(x.shape[-1], dtype=x.dtype)
        return x + self.kept[x.shape[-1]]


class _Whole(fx.Tracer):
    """Calls the modules of this file as they are, as the reader does with some of timm's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


@pytest.mark.parametrize("kind", [InBuffer, InAttribute, InDict])
@pytest.mark.parametrize("find", [lambda *a: propagate(*a, {}), operations])
def test_what_a_module_keeps_of_stand_ins_is_forgotten(kind: type[nn.Module], find: Any) -> None:
    """Else it would be read for a number later."""
    root = nn.Sequential(kind())
    graph = _Whole().trace(root)
    find(root, graph, (3, 4, 5))
    image = torch.randn(1, 3, 4, 5)
    assert torch.equal(root(image), image + torch.arange(5.0))


class Values(nn.Module):
    """Its buffers decide what it gives: numbers, masks and indices that its forward turns into shapes."""

    def __init__(self, how: str = "number") -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.how = how
        self.register_buffer("rows", torch.tensor(6))
        self.register_buffer("mask", torch.tensor([True, False, True, True, False]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        if self.how == "number":
            x = x[..., : int(self.rows), :]
        x = self.b(x).relu()
        if self.how == "mask":
            x = x[:, self.mask]
        if self.how == "nonzero":
            x = x[:, self.mask.nonzero().squeeze(1)]
        if self.how == "image":
            x = x if x.sum() > 0 else 2 * x
        if self.how == "unique":
            x = x.flatten(1)[:, : len(torch.unique(self.mask))]
        return x.flatten(1)


def spec_of(how: str) -> dict[str, Any]:
    backbone = {"model": f"python:{__name__}:Values", "arguments": {"how": how}, "input": [3, 12, 12]}
    return {"name": "v", "backbone": backbone, "nodes": {"e1": "a", "e2": "b"}, "feedback": "chain"}


@pytest.mark.parametrize("how", ["number", "mask", "nonzero", "unique"])
def test_models_that_need_their_values_are_read_with_them(how: str) -> None:
    """Also without weights, as `check` does; the layouts that `auto` wants are known, too."""
    network = pcg.build(pcg.parse_spec(spec_of(how)), trust=True)
    unloaded = pcg.build(pcg.parse_spec(spec_of(how)), trust=True, weights=False)
    for one in (network, unloaded):
        assert one.drive is not None
        assert one.drive.shapes["e2"] == (5, 4 if how == "number" else 8, 8)
        assert one.graph.edges["e2->e1"].predictor is not None
    image = torch.randn(2, 3, 12, 12)
    assert network.drive is not None
    model = Values(how).eval()
    model.load_state_dict(network.drive.model.state_dict(), strict=False)
    assert torch.equal(pcg.Scheduler(network).run(image, 0, record=["output"]).output[0], model(image))


@pytest.mark.parametrize("weights", [True, False])
def test_a_decision_by_the_image_is_refused_in_a_few_words(weights: bool, capfd: Any) -> None:
    with pytest.raises(ModelError, match="decides by the image's values"):
        pcg.build(pcg.parse_spec(spec_of("image")), trust=True, weights=weights)
    assert capfd.readouterr().err == ""


@pytest.mark.heavy
def test_a_vision_transformer_that_keeps_its_positions() -> None:
    pytest.importorskip("timm")
    spec = {
        "name": "convit",
        "backbone": {"model": "timm:convit_tiny", "arguments": {"img_size": 32}, "input": [3, 32, 32]},
        "nodes": {"e1": "blocks.1.add_1", "e2": "blocks.4.add_1"},
        "feedback": "chain",
    }
    network = pcg.build(pcg.parse_spec(spec))  # which compares it with the model itself
    assert torch.isfinite(pcg.Scheduler(network).run(torch.randn(1, 3, 32, 32), 2).output[-1]).all()
