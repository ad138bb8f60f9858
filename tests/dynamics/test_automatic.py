"""``error: auto`` against the whole Jacobians, and what it stands for in gains, tuning and specs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.analysis.stability import growth, stays_within
from pcgraph.dynamics.automatic import SHARE
from pcgraph.dynamics.tunable import TunablePredify
from pcgraph.spec import to_yaml
from tests.goldens.nets import chain

CHAIN: dict[str, Any] = {
    "name": "auto",
    "backbone": {"input": [3, 16, 16]},
    "nodes": {"e1": "1", "e2": "3", "e3": "5"},
    "feedback": "dense",
    "dynamics": {"feedforward": 0.3, "feedback": 0.2, "error": "auto"},
}


def jacobian(module: nn.Module, x: Tensor) -> Tensor:
    rows: Tensor = torch.autograd.functional.jacobian(lambda x: module(x).flatten(), x, vectorize=True)
    return rows.flatten(1)


def start_of(network: pcg.PCNetwork) -> dict[str, Tensor]:
    """The states of the plain network for the image that `auto` is measured with."""
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return dict(pcg.Scheduler(network).start(image).values)


def by_hand(network: pcg.PCNetwork, node: str, edges: list[str], kept: float, others: float = 0.0) -> float:
    values = start_of(network)
    strength = pulled = 0.0
    for name in edges:
        target = values[network.graph.edges[name].target]
        predictor = network.predictors[name]
        rows = jacobian(predictor, values[node])
        scale = 2 / math.sqrt(network.dynamics.reach[name])
        strength += scale * float(torch.linalg.matrix_norm(rows, 2)) ** 2
        error = (target - predictor(values[node])).flatten().detach()
        pulled += scale * float((rows.T @ error).norm() / values[node].norm())
    return SHARE * min((1 + kept - others) / strength, (1 - kept) / pulled)


@pytest.mark.heavy
def test_it_is_a_share_of_what_each_node_bears() -> None:
    network = pcg.build(pcg.parse_spec(CHAIN), model=chain())
    values = network.dynamics.values()
    assert values["input", "error"] == 0  # it predicts nothing
    for node, kept in (("e1", 0.5), ("e2", 0.5), ("e3", 0.7)):
        edges = [e.name for e in network.graph.edges.values() if e.kind == "feedback" and node in e.sources]
        assert len(edges) == int(node[1])
        assert values[node, "error"] == pytest.approx(by_hand(network, node, edges, kept), rel=0.05)
    gains = network.dynamics.gains(4)
    assert gains.source["e3->e1", "e3"] == values["e3", "error"]


def test_an_edge_alone_and_a_node_alone() -> None:
    feedback = ["chain", {"source": "e3", "target": "e1", "error": "auto"}]
    own = {"feedforward": 0.3, "feedback": 0.2, "error": 0.02, "nodes": {"e1": {"error": "auto"}}}
    network = pcg.build(pcg.parse_spec(CHAIN | {"feedback": feedback, "dynamics": own}), model=chain())
    source = network.dynamics.gains(1).source
    assert source["e2->e1", "e2"] == source["e3->e2", "e3"] == 0.02
    assert source["e1->input", "e1"] == pytest.approx(by_hand(network, "e1", ["e1->input"], 0.5), rel=0.05)
    rows = jacobian(network.predictors["e3->e2"], start_of(network)["e3"])
    others = (
        0.02 * 2 / math.sqrt(network.dynamics.reach["e3->e2"]) * float(torch.linalg.matrix_norm(rows, 2)) ** 2
    )
    expected = by_hand(network, "e3", ["e3->e1"], 0.7, others)
    assert source["e3->e1", "e3"] == pytest.approx(expected, rel=0.05)


def test_edges_of_a_bundle_share_what_their_targets_errors_do() -> None:
    def alphas(bundle: str | None) -> list[float]:
        feedback = [
            {"source": "e2", "target": "e1", "error": "auto", "bundle": bundle},
            {"source": "e3", "target": "e1", "error": "auto", "bundle": bundle},
        ]
        spec = {
            "name": "bundle",
            "nodes": {f"e{i}": {"shape": [4]} for i in (1, 2, 3)},
            "edges": [{"source": "e1", "target": "e2"}, {"source": "e2", "target": "e3"}],
            "feedback": feedback,
        }
        network = pcg.build(pcg.parse_spec(spec))
        return [network.dynamics.gains(1).source[f"e{i}->e1", f"e{i}"] for i in (2, 3)]

    for together, alone in zip(alphas("both"), alphas(None), strict=True):
        assert together == pytest.approx(alone / 2, rel=0.01)


def test_the_weights_that_a_spec_names_count(tmp_path: Any) -> None:
    network = pcg.build(pcg.parse_spec(CHAIN), model=chain())
    with torch.no_grad():
        for parameter in network.predictors.parameters():
            parameter.mul_(3)
    network.save_weights(tmp_path / "w.safetensors")
    spec = pcg.parse_spec(CHAIN | {"weights": "w.safetensors"}, folder=tmp_path)
    model = chain()
    trained = pcg.build(spec, model=model)
    for node, kept in (("e1", 0.5), ("e3", 0.7)):
        edges = [e.name for e in trained.graph.edges.values() if e.kind == "feedback" and node in e.sources]
        found = trained.dynamics.values()[node, "error"]
        assert found == pytest.approx(by_hand(trained, node, edges, kept), rel=0.05)


def test_it_is_not_known_without_weights() -> None:
    spec = CHAIN | {"backbone": {"model": "torchvision:resnet18", "input": [3, 64, 64]}}
    spec |= {"nodes": {"e1": "relu", "e2": "layer1"}, "feedback": "chain"}
    network = pcg.build(pcg.parse_spec(spec), weights=False)
    assert all(math.isnan(value) for value in network.dynamics.auto.values())
    assert set(network.dynamics.auto) == {"e1", "e2"}


def test_the_spec_keeps_the_word_and_tuning_begins_at_the_number() -> None:
    spec = pcg.parse_spec(CHAIN)
    assert "error: auto" in to_yaml(spec)
    assert pcg.parse_spec(to_yaml(spec)) == spec
    network = pcg.build(spec, model=chain())
    before = network.dynamics.values()["e2", "error"]
    tuned = TunablePredify(network.dynamics)
    assert float(tuned.values()["e2", "error"]) == pytest.approx(before)
    assert tuned.plain().nodes["e2"].error == pytest.approx(before)


def test_automatic_predictors_begin_without_biases_and_with_the_weights_of_their_layers() -> None:
    network = pcg.build(pcg.parse_spec(CHAIN), model=chain())
    for name, parameter in network.predictors.named_parameters():
        assert bool((parameter == 0).all()) == name.endswith("bias")
    written = [
        {
            "source": "e2",
            "target": "e1",
            "predictor": [{"ConvTranspose2d": {"kernel_size": 4, "stride": 2, "padding": 1}}],
        }
    ]
    own = pcg.build(pcg.parse_spec(CHAIN | {"feedback": written}), model=chain())
    assert bool((own.predictors["e2->e1"].bias != 0).any())


def test_growth_counts_the_worst_step() -> None:
    spec = {
        "name": "grows",
        "nodes": {"a": {"shape": [1]}, "b": {"shape": [1]}},
        "edges": [{"source": "a", "target": "b", "predictor": ["Linear"]}],
        "feedback": [{"source": "b", "target": "b", "predictor": ["Linear"]}],
        "dynamics": {"feedforward": 0.0, "feedback": 0.5, "error": 0.0},
    }
    network = pcg.build(pcg.parse_spec(spec)).double()
    with torch.no_grad():
        network.predictors["b->b"].weight.fill_(3.0)
        network.predictors["b->b"].bias.fill_(0.0)
    scheduler = pcg.Scheduler(network)
    found = growth(scheduler, torch.ones(2, 1), 5)  # b <- b / 2 + 3 b / 2
    assert found == {"a": 1.0, "b": pytest.approx(32.0)}
    assert growth(scheduler, torch.ones(2, 1), 50, enough=3)["b"] == pytest.approx(4.0)


@pytest.fixture(scope="module")
def mapped() -> pcg.PCNetwork:
    """The node 'b' begins at the weights of a->b and is multiplied by those of b->b in each step."""
    spec = {
        "name": "map",
        "nodes": {"a": {"shape": [1]}, "b": {"shape": [3]}},
        "edges": [{"source": "a", "target": "b", "predictor": ["Linear"]}],
        "feedback": [{"source": "b", "target": "b", "predictor": ["Linear"]}],
        "dynamics": {"feedforward": 0.0, "feedback": 1.0, "error": 0.0},
    }
    network = pcg.build(pcg.parse_spec(spec)).double()
    with torch.no_grad():
        for predictor in network.predictors.values():
            predictor.bias.fill_(0.0)
    return network


class Counting(pcg.Scheduler):
    """Counts its steps."""

    made = 0

    def step(self, *given: Any, **named: Any) -> pcg.State:
        self.made += 1
        return super().step(*given, **named)


def stays(network: pcg.PCNetwork, matrix: Tensor, start: Tensor) -> tuple[bool, bool, int]:
    """What `stays_within` says of 20 steps and 1.5 times; what the powers of the matrix say; the steps."""
    with torch.no_grad():
        network.predictors["a->b"].weight.copy_(start[:, None])
        network.predictors["b->b"].weight.copy_(matrix)
    scheduler = Counting(network)
    found = stays_within(scheduler, torch.ones(1, 1, dtype=torch.double), 20, 1.5)
    norms = [(torch.linalg.matrix_power(matrix, step) @ start).norm() for step in range(21)]
    return found, all(bool(norm <= 1.5 * norms[0]) for norm in norms), scheduler.made


@pytest.mark.parametrize(
    ("rates", "start", "expected", "most"),
    [
        ([0.4, 0.3, 0.0], [1, 1, 1], True, 10),
        ([-0.9, 0.1, 0.0], [1, 1, 1], True, 20),
        ([1.0, 1.0, 1.0], [1, 1, 1], True, 2),  # at rest
        ([1.02, 0.1, 0.0], [1, 0, 0], True, 20),  # 1.02 ^ 20 = 1.486
        ([1.03, 0.1, 0.0], [1, 0, 0], False, 20),  # by little a step, and too far in the end
        ([0.5, 1.3, 0.0], [1, 0.01, 0], False, 20),  # hidden at first: 0.01 x 1.3 ^ 20 = 1.9
        ([0.5, -1.6, 0.2], [1, 0.0002, 1], False, 20),
        ([0.7, 1.9, 0.2], [1, 1e-5, 1], False, 20),
        ([3.0, 0.1, 0.0], [1, 1, 1], False, 1),
        ([float("nan"), 0.1, 0.0], [1, 1, 1], False, 1),
    ],
)
def test_few_steps_tell_whether_states_stay(
    mapped: pcg.PCNetwork, rates: list[float], start: list[float], expected: bool, most: int
) -> None:
    matrix, first = torch.diag(torch.tensor(rates).double()), torch.tensor(start).double()
    found, true, made = stays(mapped, matrix, first)
    assert found is true is expected
    assert made <= most


def test_few_steps_tell_it_of_random_maps(mapped: pcg.PCNetwork) -> None:
    generator = torch.Generator().manual_seed(0)
    said = []
    for trial in range(60):
        matrix = torch.randn(3, 3, generator=generator).double()
        radius = float(torch.linalg.eigvals(matrix).abs().max())
        matrix *= (0.2 + 0.02 * trial) / radius  # from what dies at once to what runs away
        found, true, made = stays(mapped, matrix, torch.randn(3, generator=generator).double())
        assert found is true, (trial, made)
        said.append((found, made))
    assert {found for found, _ in said} == {True, False}
    assert any(found and made < 8 for found, made in said)
