"""A shortened trace computes what the trace computes, and leaves out what need not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

import pcgraph as pcg
from pcgraph.learning.compiled import batch_function
from pcgraph.learning.local import Local
from pcgraph.learning.rules import RULES
from pcgraph.simulation.packages import _as_if_compiled, _Flat, _trace
from pcgraph.simulation.shortening import shortened

pytestmark = pytest.mark.heavy
aten = torch.ops.aten


def both(function: Callable[..., Any], *tensors: Tensor) -> tuple[fx.GraphModule, fx.GraphModule]:
    """The trace of a function, and the same shortened, which must compute the same of other numbers."""
    plain = make_fx(function, tracing_mode="fake")(*tensors)
    short = shortened(plain, tensors)
    generator = torch.Generator().manual_seed(5)
    others = [torch.randn(one.shape, generator=generator, dtype=one.dtype) for one in tensors]
    ours, theirs = [one.clone() for one in others], [one.clone() for one in others]
    found, expected = short(*ours), plain(*theirs)
    assert len(found) == len(expected)
    for one, other in zip((*found, *ours), (*expected, *theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    memory = [one.data_ptr() for one in (*found, *ours)]
    assert len(set(memory)) == len(memory)  # whoever writes into one changes no other
    return plain, short


def calls(program: fx.GraphModule) -> Counter[Any]:
    return Counter(node.target for node in program.graph.nodes if node.op == "call_function")


X, W = torch.rand(4, 6), torch.rand(6, 6)


def test_what_is_computed_twice_is_computed_once() -> None:
    _, short = both(lambda x, w: [(x @ w).tanh() * (x @ w).sin() + x @ (w + 1.0)], X, W)
    assert calls(short)[aten.mm.default] == 2


def test_numbers_of_other_types_are_not_the_same() -> None:
    _, short = both(lambda x, w: [(x + 1) * 2, (x + 1.0) * 3, x.sum(0, True), x.sum(1, True)], X, W)
    assert calls(short)[aten.sum.dim_IntList] == 2


def test_an_error_that_is_zero_sends_nothing_back() -> None:
    def function(x: Tensor, w: Tensor) -> list[Tensor]:
        state = (x @ w).tanh()
        mu = (x @ w).tanh()
        error = state - mu
        back = torch.ops.aten.tanh_backward(error, mu) @ w.t()
        return [x + 0.1 * back, (state - 0.1 * error).clone()]

    _, short = both(function, X, W)
    assert calls(short)[aten.mm.default] == 1
    assert not calls(short)[aten.tanh_backward.default] + calls(short)[aten.add.Tensor]


def test_products_that_are_added_to() -> None:
    def function(x: Tensor, w: Tensor) -> list[Tensor]:
        zero = x - x
        return [torch.addmm(x, zero, w), torch.addmm(x, zero, w, beta=0.5), torch.lerp(zero, x, 0.1)]

    _, short = both(function, X, W)
    assert calls(short)[aten.addmm.default] == 1


def test_differences_that_look_like_zero_and_are_not() -> None:
    both(lambda x, w: [torch.sub(x, x, alpha=2), x - x.t()[:4, :4].sum(), x - x * 1.5, 0 * x + 1], X, W)


def test_arguments_and_results_stay_apart() -> None:
    both(lambda x, w: [x.detach(), x * 1.0, w.sin(), w.sin(), w.t().clone(), *w.cos().unbind()], X, W)


def test_steps_in_place() -> None:
    def function(x: Tensor, w: Tensor) -> list[Tensor]:
        state, rest = x.clone(), torch.zeros_like(x)
        for _ in range(3):
            rest.lerp_(state - x, 0.1)
            state.sub_(rest).addmm_(rest, w)
        return [state, rest]

    _, short = both(function, X, W)
    assert calls(short)[aten.addmm.default] == 0


def test_arguments_that_are_written_into() -> None:
    def function(x: Tensor, w: Tensor) -> list[Tensor]:
        before = w.clone()
        w.copy_(w - 0.1 * (x.t() @ x))
        x.mul_(2)
        return [before, w.sin(), x @ w]

    both(function, X, W)


def convolutional() -> dict[str, Any]:
    """Four levels of maps above the image, and a label."""
    conv = {"Conv2d": {"kernel_size": 3, "padding": 1, "out_channels": 3}}
    nodes: dict[str, Any] = {f"n{level}": {"shape": [3, 4, 4]} for level in range(4)} | {"n4": {"shape": [2]}}
    edges: list[dict[str, Any]] = [
        {"source": f"n{level}", "target": f"n{level + 1}", "predictor": [conv, "Tanh"]} for level in range(3)
    ]
    edges.append({"source": "n3", "target": "n4", "predictor": ["Flatten", "Linear"]})
    return {"name": "c", "nodes": nodes, "edges": edges, "dynamics": {"rule": "energy", "rate": 0.1}}


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_errors_come_down_one_level_a_step(steps: int) -> None:
    """After t steps the t highest states have moved: what those below predict is known."""
    network = pcg.build(pcg.parse_spec(convolutional()), seed=0).double()
    clamp = {
        "n0": torch.rand(2, 3, 4, 4, dtype=torch.float64),
        "n4": F.one_hot(torch.tensor([0, 1]), 2).double(),
    }
    weights = dict(network.named_parameters())
    function = batch_function(RULES["il"], Local(network), tuple(weights), tuple(clamp), steps)
    tensors = [*(one.detach().requires_grad_() for one in weights.values()), *clamp.values()]
    with torch.no_grad(), _as_if_compiled():
        plain = _trace(_Flat(function, tuple(tensors)))
        short = shortened(plain, tensors)
        for one, other in zip(plain(*tensors), short(*tensors), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
    # n3 moves at the first step, n2 at the second, n1 at the third; one edge reads each, one predicts it
    moved = sum(max(steps - level, 0) for level in (1, 2))
    assert calls(short)[aten.convolution.default] == 3 + moved  # 3 at the start
    assert calls(short)[aten.convolution_backward.default] == moved + 3  # 3 for the weights
    if steps > 1:
        assert calls(plain)[aten.convolution.default] > 3 + moved
