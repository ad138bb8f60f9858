"""Names of the places, and what cannot be traced."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import get_graph_node_names

from pcgraph.errors import ModelError
from pcgraph.tracing import Drive, load_model, symbolic_trace, trace
from tests.nets import INPLACE, Residual, Shared, chain


@pytest.mark.parametrize(
    "name", ["vgg11", "resnet18", "densenet121", "mobilenet_v3_small", "googlenet", "swin_t"]
)
def test_names_are_those_of_torchvision(name: str) -> None:
    model = load_model(f"torchvision:{name}", meta=True)
    _, expected = get_graph_node_names(model, suppress_diff_warning=True)
    _, names = symbolic_trace(model)
    assert list(names) == expected


def test_names_of_a_vision_transformer() -> None:
    """As torchvision's, except that there `ln` means the module `ln_1`, and `ln_1` means `ln_2`."""
    model = load_model("torchvision:vit_b_16", meta=True)
    _, expected = get_graph_node_names(model, suppress_diff_warning=True)
    renamed = [re.sub(r"ln(_1)?$", lambda m: "ln_2" if m[1] else "ln_1", name) for name in expected]
    renamed = ["encoder.ln" if name == "encoder.ln_1" else name for name in renamed]
    assert list(symbolic_trace(model)[1]) == renamed


def test_names_of_residual() -> None:
    traced, names = symbolic_trace(Residual())
    assert isinstance(traced, fx.GraphModule)
    assert {"x", "stem", "block1.relu", "block1.relu_1", "block1.add", "block2.down", "flatten"} <= set(names)
    assert set(names.values()) < {node.name for node in traced.graph.nodes}


def test_numbered_modules_keep_their_names() -> None:
    class Numbered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv_1 = nn.Conv2d(3, 3, 1)
            self.conv_2 = nn.Conv2d(3, 3, 1)
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(self.conv(x))
            return self.conv_2(self.conv_1(x))

    _, names = symbolic_trace(Numbered())
    assert list(names) == ["x", "conv", "conv_3", "conv_1", "conv_2"]


@pytest.mark.parametrize("kind", INPLACE, ids=lambda kind: kind.__name__)
def test_traced_module_changes_nothing_in_place(kind: type[nn.Module]) -> None:
    model = kind().eval()
    traced, _ = symbolic_trace(model)
    image = torch.randn(2, 3, 6, 6)
    kept = image.clone()
    with torch.no_grad():
        got = traced(image)
        assert torch.equal(image, kept)
        assert torch.equal(got, model(image))
    assert not any(getattr(module, "inplace", False) for module in traced.modules())


def test_model_keeps_its_inplace_modules_and_mode() -> None:
    model = chain().train()
    symbolic_trace(model)
    assert model.training
    assert [module.inplace for module in model if isinstance(module, nn.ReLU)] == [True] * 3


def test_eval_mode_is_traced() -> None:
    class Moody(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if self.training else x + 1

    assert list(symbolic_trace(Moody().train())[1]) == ["x", "add"]


def test_further_parameters_keep_their_defaults() -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor, mask: Tensor | None = None, *more: Any, scale: float = 3.0) -> Tensor:
            if mask is not None:
                x = x * mask
            return x * scale

    drive = Drive(Masked(), {}, (3,))
    image = torch.randn(2, 3)
    (stage,) = drive.stages([["output"]], frozenset())
    assert torch.equal(stage({"input": image})["output"], image * 3)


def test_constant_tensors_move_with_the_module() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.tensor([1.0, 2.0, 3.0])

    drive = Drive(Constant(), {}, (3,)).double()
    (stage,) = drive.stages([["output"]], frozenset())
    image = torch.ones(1, 3, dtype=torch.float64)
    output = stage({"input": image, **drive.constants(frozenset())({})})["output"]
    assert output.dtype == torch.float64
    assert output.tolist() == [[1.0, 2.0, 3.0]]
    assert {buffer.dtype for buffer in drive.buffers()} == {torch.float64}
    assert not drive.state_dict()


def test_decision_by_the_image_is_an_error() -> None:
    class Deciding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.sum() > 0:
                return x
            return -x

    with pytest.raises(ModelError) as caught:
        trace(Deciding(), (3,))
    (fault,) = caught.value.faults
    assert fault.message.startswith("Deciding cannot be traced in its forward (module 'inner'), line ")
    assert "test_tracer.py (`if x.sum() > 0:`): " in fault.message
    assert "decides by the image's values or by how many" in fault.hint


def test_several_inputs_are_an_error() -> None:
    class Two(nn.Module):
        def forward(self, image: Tensor, text: Tensor) -> Tensor:
            return image + text

    class Zero(nn.Module):
        def forward(self) -> None:
            return None

    with pytest.raises(ModelError, match="Two takes 2 inputs: image, text"):
        symbolic_trace(Two())
    with pytest.raises(ModelError, match="Zero takes no input"):
        symbolic_trace(Zero())


def test_module_called_twice_has_two_names() -> None:
    assert {"conv", "conv_1", "act", "act_1"} <= set(symbolic_trace(Shared())[1])


def test_leaf_modules_of_torchvision_ops() -> None:
    _, names = symbolic_trace(torchvision.models.mobilenet_v3_small(weights=None))
    assert "features.0" in names  # one operation, though it holds a convolution and an activation
    assert "features.0.0" not in names


@pytest.mark.parametrize("attribute", ["mT", "mH", "T", "H"])
def test_an_attribute_that_is_a_tensor_belongs_to_the_module_that_says_it(attribute: str) -> None:
    class Turn(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            turned: Tensor = getattr(x.flatten(1) if len(attribute) == 1 else x.flatten(2), attribute)
            return turned

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map, self.turn, self.last = nn.Conv2d(3, 5, 3), Turn(), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            x = self.last(self.turn(self.map(x)))
            return x if len(attribute) == 2 else getattr(x, attribute)

    model = Model().eval()
    x = torch.randn(2, 3, 6, 8)
    graph, names = symbolic_trace(model)
    assert names["turn.getattr"]
    assert not any(name.startswith("last.getattr") for name in names)
    assert torch.equal(graph(x), model(x))
