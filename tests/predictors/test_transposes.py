"""Predictors of constant weights equal the layers that they stand for, and their transposes autograd."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import nn

import pcgraph as pcg
from pcgraph.graph import Node
from pcgraph.predictors.automatic import automatic
from pcgraph.predictors.fast.transposes import Affine, Convolved, Doubled, affine
from pcgraph.simulation.compiling import Compiler
from pcgraph.spec.layout import convention


def between(*shapes: tuple[int, ...]) -> nn.Module:
    """The predictor that `auto` stands for, between two maps."""
    source, target = (
        Node(name, shape, layout=convention(shape)) for name, shape in zip("ab", shapes, strict=True)
    )
    return automatic(source, target)


def check(form: Affine | None, layers: nn.Module, source: Sequence[int]) -> None:
    assert form is not None
    x = torch.randn(2, *source, dtype=torch.float64, requires_grad=True)
    expected = layers(x)
    torch.testing.assert_close(form(x), expected)
    cotangent = torch.randn_like(expected)
    (gradient,) = torch.autograd.grad(expected, x, cotangent)
    torch.testing.assert_close(form.pull(cotangent), gradient)


@pytest.mark.parametrize("source", [(8, 5, 7), (4, 2, 2), (3, 1, 4), (5, 1, 1)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_doubled_equals_upsampling_then_convolving(source: tuple[int, ...], has_bias: bool) -> None:
    predictor = between(source, (3, 2 * source[1], 2 * source[2])).double()
    if not has_bias:
        predictor[1].bias = None
    form = affine(predictor)
    assert isinstance(form, Doubled)
    check(form, nn.Sequential(*predictor), source)


@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), ((3, 5), (0, 2)), (1, 0), (2, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_convolved_equals_the_transposed_convolution(kernel: int, padding: int, bias: bool) -> None:
    layer = nn.ConvTranspose2d(4, 3, kernel, padding=padding, bias=bias).double()
    form = affine(nn.Sequential(layer))
    assert isinstance(form, Convolved)
    check(form, layer, (4, 6, 5))


@pytest.mark.parametrize(
    "predictor",
    [
        between((4, 5, 5), (3, 11, 10)),  # does not double
        nn.ConvTranspose2d(4, 4, 3, stride=2),
        nn.ConvTranspose2d(4, 4, 3, groups=2),
        nn.ConvTranspose2d(4, 4, 3, dilation=2),
        nn.ConvTranspose2d(4, 4, 1, padding=1),  # cuts off more than it adds
        nn.Sequential(nn.ConvTranspose2d(4, 3, 3), nn.ReLU()),
        nn.Flatten(),
    ],
)
def test_others_are_left_as_they_are(predictor: nn.Module) -> None:
    assert affine(predictor) is None


def test_the_weights_are_those_of_the_time() -> None:
    predictor = between((4, 3, 3), (2, 6, 6)).requires_grad_(False)
    form, x = affine(predictor), torch.randn(1, 4, 3, 3)
    assert form is not None
    before = predictor(x)
    predictor[1].weight.mul_(2)
    predictor[1].bias.zero_()
    torch.testing.assert_close(form(x), before)


def test_compiled_steps_use_them() -> None:
    spec = {
        "name": "both",
        "nodes": {"a": {"shape": [3, 8, 8]}, "b": {"shape": [6, 4, 4]}, "c": {"shape": [5, 4, 4]}},
        "edges": [{"source": "b", "target": "a"}, {"source": "c", "target": "b"}],
        "dynamics": {"rule": "energy", "rate": 0.02},
    }
    network = pcg.build(pcg.parse_spec(spec))
    images = torch.randn(2, 3, 8, 8)
    plain = pcg.Scheduler(network).run(images, steps=3, record=["values", "predictions", "gradients"])
    scheduler = pcg.Scheduler(network).compile(backend="aot_eager")
    compiled = scheduler.run(images, steps=3, record=["values", "predictions", "gradients"])
    assert isinstance(scheduler._stepper.compiler, Compiler)
    assert {name: type(form) for name, form in scheduler._stepper.compiler.constant.items()} == {
        "b->a": Doubled,
        "c->b": Convolved,
    }
    for quantity in ("values", "predictions", "gradients"):
        for name, series in getattr(plain, quantity).items():
            torch.testing.assert_close(getattr(compiled, quantity)[name], series)


@pytest.mark.parametrize("differentiable", [False, True, "first_order"])
@pytest.mark.parametrize("bf16", [False, True])
def test_a_linear_predictor_is_carried_back_as_autograd_would(differentiable: bool | str, bf16: bool) -> None:
    spec = {
        "name": "linear",
        "nodes": {"a": {"shape": [6]}, "b": {"shape": [4, 5]}, "c": {"shape": [4, 3]}},
        "edges": [
            {"source": "b", "target": "a", "predictor": ["Flatten", "Linear"]},
            {"source": "c", "target": "b", "predictor": ["Linear"]},
        ],
        "dynamics": {"rule": "energy", "rate": 0.1},
        "schedule": {"initial": "normal"},
    }
    results = []
    for wrapped in (False, True):
        network = pcg.build(pcg.parse_spec(spec))
        if wrapped:  # no longer seen to be linear
            network.predictors["c->b"] = nn.Sequential(network.predictors["c->b"])
        given = torch.ones(2, 6, requires_grad=bool(differentiable))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            run = pcg.Scheduler(network).run(
                given,
                steps=3,
                record=["values", "gradients"],
                generator=torch.Generator().manual_seed(0),
                differentiable=differentiable,
            )
        found = [run.values["c"][3], run.gradients["c"][2], run.gradients["b"][2]]
        if differentiable:
            leaves = [given, *network.predictors.parameters()]
            last = run.values["c"][3].sum() + run.values["b"][3].sum()
            found += torch.autograd.grad(last, leaves, materialize_grads=True)
        results.append(found)
    tolerance = {"atol": 0.02, "rtol": 0.02} if bf16 else {"atol": 1e-6, "rtol": 1e-5}
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, **tolerance)
