"""Shapes that are found without storage, against a real pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from pcgraph.errors import ModelError
from pcgraph.tracing import shapes
from pcgraph.tracing.shapes import propagate
from pcgraph.tracing.storage import needs_no_storage
from pcgraph.tracing.tracer import trace_symbolically


class Sequence(nn.Module):
    """A recurrent layer over the rows of a map, whose first result is taken."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        given = x.flatten(1, 2)
        if isinstance(self.layer, nn.MultiheadAttention):
            return self.head(self.layer(given, given, given)[0])  # type: ignore[no-any-return]
        return self.head(self.layer(given)[0])  # type: ignore[no-any-return]


class Indexed(nn.Module):
    """Its buffer chooses channels."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("chosen", torch.tensor([2, 0]))
        self.layer = nn.Conv2d(2, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.arange(x.shape[-2], device=x.device, dtype=x.dtype)
        return self.layer(x[:, self.chosen] + rows[:, None]).half().float()  # type: ignore[no-any-return]


class Own(nn.Module):
    """Says what it is only if it has numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.is_meta else torch.cat([x, x], 1)


MODELS = {
    "mobilenet": lambda: torchvision.models.mobilenet_v3_small(),
    "resnet": lambda: torchvision.models.resnet18(),
    "lstm": lambda: Sequence(nn.LSTM(6, 3, bidirectional=True, batch_first=True)),
    "gru": lambda: Sequence(nn.GRU(6, 6, num_layers=2, batch_first=True)),
    "attention": lambda: Sequence(nn.MultiheadAttention(6, 2, batch_first=True)),
    "encoder": lambda: nn.Sequential(nn.Flatten(1, 2), nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)),
    "index": Indexed,
}


ROWS = 24
RECURRENT = {"lstm": 2 * 4 * 3 * (6 + 3) * ROWS, "gru": 2 * 3 * 6 * (6 + 6) * ROWS}
"""Multiply-adds of both directions, and of both layers: gates x units x (inputs + units)."""


def traced(model: nn.Module) -> fx.Graph:
    return trace_symbolically(model, {})[0]


class Real(fx.Interpreter):
    """The shape and the type of each value, and half of the operations counted, of a pass with numbers."""

    def __init__(self, root: nn.Module, graph: fx.Graph, counter: FlopCounterMode) -> None:
        super().__init__(root, graph=graph)
        self.counter, self.found = counter, {}  # type: ignore[var-annotated]

    def run_node(self, n: fx.Node) -> Any:
        before = self.counter.get_total_flops()
        value = super().run_node(n)
        if isinstance(value, Tensor):
            cost = (self.counter.get_total_flops() - before) // 2
            self.found[n.name] = (tuple(value.shape), value.dtype, cost)
        return value


@pytest.mark.parametrize("name", MODELS)
def test_values_are_those_of_a_real_pass(name: str) -> None:
    torch.manual_seed(0)
    model, image = MODELS[name]().eval().requires_grad_(False), torch.randn(1, 3, 8, 6)
    graph, weights = traced(model), dict(model.state_dict(keep_vars=True))
    assert needs_no_storage(model, graph)
    found = propagate(model, graph, (3, 8, 6), {})
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        real = Real(model, graph, counter)
        real.run(image)
    for node, (shape, dtype, cost) in real.found.items():
        assert found[node].dtype == dtype
        assert found[node].shape in (shape[1:], None)
        if name not in ("attention", "encoder"):  # fused kernels, which are not counted
            assert found[node].cost == cost
    if name in RECURRENT:
        assert found["layer"].cost == RECURRENT[name]
    assert all(one is weights[name] for name, one in model.state_dict(keep_vars=True).items())


def test_autocast_is_seen() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    with torch.autocast("cpu", torch.bfloat16):
        found = propagate(model, traced(model), (3, 8, 8), {})
    assert found["_0"].dtype == torch.bfloat16


class Whole(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def test_foreign_code_sees_stand_ins_with_a_device() -> None:
    model = nn.Sequential(Own())
    found = propagate(model, Whole().trace(model), (3, 8, 8), {})
    assert found["_0"].shape == (6, 8, 8)
    hooked = nn.Sequential(nn.ReLU())
    hooked[0].register_forward_hook(lambda module, given, made: Own()(made))
    found = propagate(hooked, Whole().trace(hooked), (3, 8, 8), {})
    assert found["_0"].shape == (6, 8, 8)


def test_what_does_not_fit_is_said_of_the_model_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(5, 2)).eval()
    messages = []
    for knows in (needs_no_storage, lambda root, graph: False):
        monkeypatch.setattr(shapes, "needs_no_storage", knows)
        with pytest.raises(ModelError) as caught:
            propagate(model, traced(model), (3, 8, 8), {"_1": "1"})
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "at '1'" in messages[0]
    assert all(not weight.is_meta for weight in model.parameters())
