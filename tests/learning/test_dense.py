"""The short way for layered networks gives the scheduler's states, and is taken by no other network."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pcgraph as pcg
from pcgraph.learning import weight_gradients
from pcgraph.learning.dense import BACKWARD, Layered
from pcgraph.learning.local import Local
from tests.examples import examples

pytestmark = pytest.mark.usefixtures("tiny_networks")

SIZES = st.lists(st.integers(1, 7), min_size=3, max_size=6).filter(lambda s: s[2] <= 2 * s[1])
ACTIVATIONS = [[], *[[kind.__name__] for kind in BACKWARD if kind is not torch.nn.Identity]]


def layered(sizes: list[int], activation: list[str], last: dict[str, Any], **dynamics: Any) -> dict[str, Any]:
    names = [f"x{level}" for level in range(len(sizes))]
    edges: list[dict[str, Any]] = [
        {"source": a, "target": b, "predictor": ["Linear", *activation], "precision": 0.5 + 0.25 * level}
        for level, (a, b) in enumerate(itertools.pairwise(names))
    ]
    edges[-1] |= last
    nodes = {name: {"shape": [size]} for name, size in zip(names, sizes, strict=True)}
    return {"name": "layered", "nodes": nodes, "edges": edges, "dynamics": {"rule": "energy", **dynamics}}


def clamped(sizes: list[int], seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, last = (
        torch.rand(3, size, generator=generator, dtype=torch.float64) for size in (sizes[0], sizes[-1])
    )
    return {"x0": first, f"x{len(sizes) - 1}": last}


@examples(40)
@given(
    SIZES,
    st.sampled_from(ACTIVATIONS),
    st.sampled_from(["gaussian", "categorical", "bernoulli"]),
    st.integers(0, 12),
    st.integers(0, 99),
)
def test_the_states_are_the_schedulers(
    sizes: list[int], activation: list[str], energy: str, steps: int, seed: int
) -> None:
    spec = layered(sizes, activation, {"energy": energy}, rate=0.2, nodes={"x1": {"rate": 0.1}})
    network = pcg.build(pcg.parse_spec(spec), seed=seed).double()
    clamp = clamped(sizes, seed)
    short = Layered.find(network, frozenset(clamp))
    assert short is not None
    expected = pcg.Scheduler(network).run(clamp=clamp, steps=steps, record=[]).state
    found = short.settle(pcg.Scheduler(network).start(clamp=clamp), steps)
    assert found.step == expected.step == steps
    for node, value in expected.values.items():
        torch.testing.assert_close(found.values[node], value, rtol=1e-9, atol=1e-10)


def test_the_weights_learn_from_them() -> None:
    sizes = [6, 5, 4, 3]
    network = pcg.build(pcg.parse_spec(layered(sizes, ["Tanh"], {}, rate=0.2))).double()
    clamp = clamped(sizes, 1)
    state = pcg.Scheduler(network).run(clamp=clamp, steps=9, record=[]).state
    local = Local(network)
    energy = local.energies(local.predict(state).mu, state.values)
    names = [name for name, _ in network.named_parameters()]
    gradients = torch.autograd.grad(sum(energy.values()), list(network.parameters()))
    found = weight_gradients(network, clamp, steps=9)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    for name, gradient in zip(names, gradients, strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-10)


OTHERS: dict[str, dict[str, Any]] = {
    "activation before the matrix": {"edges": {1: {"predictor": ["Tanh", "Linear"]}}},
    "another activation": {"edges": {1: {"predictor": ["Linear", "Softplus"]}}},
    "a precision for each unit": {"edges": {0: {"precision": [1.0, 2.0, 3.0, 4.0, 5.0]}}},
    "a learned precision": {"edges": {2: {"precision": "learned"}}},
    "a skip": {"more": {"source": "x0", "target": "x2", "predictor": ["Linear"]}},
    "feedback": {"feedback": [{"source": "x2", "target": "x1", "predictor": ["Linear"]}]},
    "a slow edge": {"edges": {1: {"delay": 2}}},
    "a sweep": {"schedule": {"order": "sweep"}},
    "another start": {"schedule": {"initial": "zeros"}},
    "momentum": {"dynamics": {"rule": "energy", "rate": 0.2, "optimizer": "momentum"}},
    "Langevin noise": {"dynamics": {"rule": "energy", "rate": 0.2, "temperature": 0.1}},
    "a tolerance": {"schedule": {"tolerance": 0.1}},
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_any_other_network_goes_the_long_way(change: dict[str, Any]) -> None:
    spec = layered([6, 5, 4, 3], ["Tanh"], {}, rate=0.2)
    assert Layered.find(pcg.build(pcg.parse_spec(spec)), frozenset({"x0", "x3"})) is not None
    assert Layered.find(pcg.build(pcg.parse_spec(spec)), frozenset({"x0"})) is None
    for place, fields in change.get("edges", {}).items():
        spec["edges"][place] |= fields
    spec["edges"] += [change["more"]] if "more" in change else []
    spec |= {key: value for key, value in change.items() if key in ("feedback", "schedule", "dynamics")}
    assert Layered.find(pcg.build(pcg.parse_spec(spec)), frozenset({"x0", "x3"})) is None
