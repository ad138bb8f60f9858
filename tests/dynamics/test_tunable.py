"""The learnable values of rule `predify`; test_goldens.py compares them with the published package."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import pcgraph as pcg
from pcgraph.dynamics.gains import Predify, check_memory
from pcgraph.dynamics.tunable import TunablePredify
from pcgraph.network import PCNetwork
from tests.nets import chain

NODES = {"e1": "1", "e2": "3", "e3": "5"}
SIXTH = 1e-6


def network(wiring: object = "chain", /, **dynamics: object) -> PCNetwork:
    spec = pcg.parse_spec(
        {
            "name": "tunable",
            "backbone": {"input": [3, 16, 16]},
            "nodes": NODES,
            "feedback": wiring,
            "dynamics": {"rule": "predify", **dynamics},
            "schedule": {"order": "sweep"},
        }
    )
    torch.manual_seed(0)
    return pcg.build(spec, model=chain())


def images() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def outputs(net: PCNetwork, steps: int = 4) -> Tensor:
    return torch.stack(pcg.Scheduler(net).run(images(), steps=steps).output)


DYNAMICS = [
    {},
    {"feedforward": 0.5, "feedback": 0.2, "error": 0.03},
    {"feedforward": 0.7, "feedback": 0.3},
    {"feedforward": 1.0, "feedback": 0.0, "error": 0.0},
    {"feedforward": 0.0, "feedback": 0.4},
    {"feedforward": 0.2, "feedback": 0.3, "nodes": {"e2": {"feedforward": 0.6, "error": 0.1}}},
]


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_tuning_starts_from_the_values_of_the_spec(dynamics: dict) -> None:
    net = network(**dynamics)
    plain, expected = outputs(net), net.dynamics.gains(2)
    net.dynamics = TunablePredify(net.dynamics)
    torch.testing.assert_close(outputs(net), plain, atol=1e-5, rtol=0)
    gains = net.dynamics.gains(2)
    for term, gain in expected.target.items():
        assert torch.as_tensor(gains.target[term]).item() == pytest.approx(gain, abs=2 * SIXTH)
    for pair, gain in gains.source.items():
        assert gain.item() == pytest.approx(expected.source.get(pair, 0.0), abs=SIXTH)


@pytest.mark.parametrize("shared", [False, True])
def test_the_plain_values_of_moved_parameters_give_the_same_run(shared: bool) -> None:
    net = network()
    net.dynamics = TunablePredify(net.dynamics, shared=shared)
    with torch.no_grad():
        for place, raw in enumerate(net.dynamics.raw.values()):
            raw += 0.3 * (place + 1) + 0.05 * torch.arange(len(raw))
        net.dynamics.raw["error"][0] = -0.2
    tuned = outputs(net)
    plain = net.dynamics.plain()
    fixed = network(**plain.model_dump(exclude_defaults=True))
    assert not isinstance(fixed.dynamics, TunablePredify)
    fixed.predictors.load_state_dict(net.predictors.state_dict())
    torch.testing.assert_close(outputs(fixed), tuned, atol=1e-4, rtol=1e-4)
    assert set(plain.nodes) == (set() if shared else set(NODES))


def test_shares_sum_to_one_and_alpha_is_never_negative() -> None:
    net = network()
    net.dynamics = TunablePredify(net.dynamics)
    with torch.no_grad():
        for raw in net.dynamics.raw.values():
            raw.copy_(torch.tensor([-9.0, 0.5, 7.0]))
    values = net.dynamics.values()
    beta, feedback, error = (
        {node: values[node, name].item() for node in NODES} for name in ("feedforward", "feedback", "error")
    )
    for node, raw in zip(NODES, (-9.0, 0.5, 7.0), strict=True):
        assert beta[node] == pytest.approx(1 / 3)
        assert feedback[node] == pytest.approx(1 / 3)
        assert error[node] == max(raw, 0.0)
    (gradient,) = torch.autograd.grad(values["e1", "error"], net.dynamics.raw["error"])
    assert gradient.tolist() == [1, 0, 0], "a negative alpha can come back"


def test_what_is_cut_stays_cut() -> None:
    net = network(feedforward=0.4, feedback=0.0, error=0.0)
    net.dynamics = TunablePredify(net.dynamics)
    with torch.no_grad():
        for raw in net.dynamics.raw.values():
            raw += 1
    values = net.dynamics.values()
    assert all(values[node, name].item() == 0 for node in NODES for name in ("feedback", "error"))
    run = pcg.Scheduler(net).run(images(), steps=3, differentiable="first_order")
    gradients = torch.autograd.grad(run.output[-1].square().sum(), list(net.dynamics.raw.values()))
    by_name = dict(zip(net.dynamics.raw, gradients, strict=True))
    assert by_name["feedback"].abs().max() == 0
    assert by_name["error"].abs().max() == 0
    # a chain at its feedforward values stays there: only cut pathways could have moved it
    assert by_name["feedforward"].abs().max() < 1e-3


def test_an_edge_keeps_its_own_gains() -> None:
    own = {"source": "e2", "target": "e1", "gain": 0.25, "error": 0.5}
    net = network([own, {"source": "e3", "target": "e1"}, {"source": "e1", "target": "input"}])
    net.dynamics = TunablePredify(net.dynamics)
    gains = net.dynamics.gains(2)
    assert gains.target["e2->e1"] == 0.25
    assert gains.source["e2->e1", "e2"] == 0.5
    assert isinstance(gains.target["e3->e1"], Tensor)
    assert float(gains.target["e3->e1"]) == pytest.approx(0.3, abs=SIXTH)


def test_shared_values_and_values_of_single_nodes_contradict_each_other() -> None:
    net = network(nodes={"e1": {"error": 0.5}})
    with pytest.raises(pcg.SpecError, match="while 'e1' have values of their own"):
        TunablePredify(net.dynamics, shared=True)


def test_shares_above_one_cannot_be_tuned() -> None:
    net = network(nodes={"e2": {"feedforward": 0.8, "feedback": 0.5}}, allow_negative_memory=True)
    with pytest.raises(pcg.SpecError, match=r"beta \+ lambda of 'e2' is 1.3"):
        TunablePredify(net.dynamics)


def test_checkpointing_gives_the_same_gradients() -> None:
    found = []
    for checkpoint in (False, True):
        net = network(feedforward=0.5, feedback=0.2, error=0.1)
        net.dynamics = TunablePredify(net.dynamics)
        run = pcg.Scheduler(net).run(images(), steps=4, differentiable="first_order", checkpoint=checkpoint)
        found.append(torch.autograd.grad(run.output[-1].square().sum(), list(net.dynamics.raw.values())))
    for kept, again in zip(*found, strict=True):
        assert kept.abs().max() > 0
        torch.testing.assert_close(again, kept)


@pytest.mark.parametrize(
    ("feedback", "share"),
    [
        ([{"source": "e2", "target": "e1", "gain": 0.25}, {"source": "e3", "target": "e1"}], {}),
        ([{"source": "e2", "target": "e1"}, {"source": "e3", "target": "e1"}], {"feedback": "edge"}),
        ([{"source": "e2", "target": "e1", "gain": 0.3}], {"feedback": "edge"}),
    ],
)
def test_whatever_the_raw_values_no_step_replaces_more_than_a_state(feedback: list, share: dict) -> None:
    net = network(feedback, feedforward=0.3, feedback=0.2, share=share)
    before = {key: float(value) for key, value in net.dynamics.values().items()}
    tuned = TunablePredify(net.dynamics)
    after = {key: float(value) for key, value in tuned.values().items()}
    assert {key: after[key] for key in after if key[0] != "input"} == pytest.approx(
        {key: before[key] for key in after if key[0] != "input"}, abs=SIXTH
    )
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        with torch.no_grad():
            for raw in tuned.raw.values():
                raw.copy_(8 * torch.randn(raw.shape, generator=draw))
        assert min(memory for node, memory in tuned.memory().items() if node != "input") > -SIXTH
        rule = Predify(tuned.graph, tuned.plain(), tuned.reach)
        check_memory(rule)  # what is written can be built
