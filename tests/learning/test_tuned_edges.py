"""Tuning of gains that edges set themselves: their beginning, gradient and bounds, and what is written."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

import pcgraph as pcg
from pcgraph.cli.tune import values_tables
from pcgraph.datasets import Batch
from pcgraph.dynamics.tunable import TunablePredify
from pcgraph.errors import InputError, SpecError
from pcgraph.learning.dynamics import DynamicsTask
from pcgraph.learning.saving import save_network
from pcgraph.network import PCNetwork
from pcgraph.spec import Tune
from tests.dynamics.test_tunable import NODES
from tests.nets import chain

TO_E1 = {"source": "e2", "target": "e1"}
LONG = {"source": "e3", "target": "e1"}
TO_INPUT = {"source": "e1", "target": "input"}
WIRINGS: list[list[dict[str, Any]]] = [
    [{**TO_E1, "gain": 0.2, "error": 0.03}, TO_INPUT],
    [{**TO_E1, "gain": 0.3}, {**LONG, "gain": 0.4, "error": 0.01}, {**TO_INPUT, "error": 0.02}],
    [{**TO_E1, "gain": 0.25}, LONG, {**TO_INPUT, "gain": 0.7, "error": 0.0}],
    [{**TO_E1, "gain": 0.0, "error": 0.05}, {**LONG, "gain": 0.1, "error": "auto"}],
]


def network(wiring: list[dict[str, Any]], order: str = "sweep", **dynamics: object) -> PCNetwork:
    spec = pcg.parse_spec(
        {
            "name": "edges",
            "backbone": {"input": [3, 16, 16]},
            "nodes": NODES,
            "feedback": wiring,
            "dynamics": {"feedforward": 0.2, "feedback": 0.1, **dynamics},
            "schedule": {"order": order},
        }
    )
    torch.manual_seed(0)
    return pcg.build(spec, model=chain())


def task(net: PCNetwork, *learns: str, steps: int = 3, **more: object) -> DynamicsTask:
    return DynamicsTask(net, Tune.model_validate({"steps": steps, "learns": list(learns), **more}))


def some() -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 16, 16, generator=generator, dtype=torch.float64)
    return Batch(images, torch.tensor([0, 1, 2, 3]), torch.arange(4))


@pytest.mark.parametrize("learns", [["edges"], ["dynamics", "edges"]])
@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("dynamics", [{}, {"share": {"feedback": "edge"}}])
def test_tuning_starts_from_the_gains_of_the_edges(
    wiring: list[dict[str, Any]], learns: list[str], dynamics: dict[str, Any]
) -> None:
    net = network(wiring, **dynamics)
    expected = net.dynamics.gains(2)
    with torch.no_grad():
        found = task(net, *learns).dynamics.gains(2)
    for term, gain in expected.target.items():
        assert float(found.target[term]) == pytest.approx(float(gain), abs=3e-6)
    for pair in {*expected.source, *found.source}:
        given = float(expected.source.get(pair, 0.0))
        assert float(found.source.get(pair, 0.0)) == pytest.approx(given, abs=3e-6)


@pytest.mark.parametrize(
    ("steps", "order", "errors"), [(1, "sweep", True), (3, "sweep", False), (3, "synchronous", False)]
)
@pytest.mark.parametrize("learns", [["edges"], ["dynamics", "edges"]])
def test_the_gradient_is_that_of_finite_differences(
    steps: int, order: str, errors: bool, learns: list[str]
) -> None:
    """With errors after one step: further on, tuning takes their gradients as given."""
    wiring = WIRINGS[1] if errors else [{**edge, "error": 0.0} for edge in WIRINGS[1]]
    net = network(wiring, order, error=0.02 if errors else 0.0).double()
    tuned, batch = task(net, *learns, steps=steps, loss="last"), some()
    moving = tuned.parameters()
    assert len(moving) == (2 if errors else 1) + (4 if "dynamics" in learns else 0)

    def loss() -> Tensor:  # the task's own is in single precision
        ran = tuned.scheduler.run(
            batch.images, steps, record=["output"], places=batch.indices, differentiable="first_order"
        )
        return F.cross_entropy(ran.output[-1], batch.labels)

    (losses,) = tuned.moments(batch)
    assert losses["cross_entropy"].item() == pytest.approx(loss().item(), rel=1e-5)
    found = torch.autograd.grad(loss(), moving, allow_unused=True)
    gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(moving, found, strict=True)]
    size, seen = 1e-5, 0
    for parameter, gradient in zip(moving, gradients, strict=True):
        for place in range(len(parameter)):
            beside = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter[place] += sign * size
                beside.append(loss().item())
                with torch.no_grad():
                    parameter[place] -= sign * size
            slope = (beside[0] - beside[1]) / (2 * size)
            assert gradient[place].item() == pytest.approx(slope, rel=1e-4, abs=1e-9)
            seen += abs(slope) > 1e-8
    assert seen >= 2


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("moves_nodes", [False, True])
def test_no_step_replaces_more_than_the_state(shared: bool, moves_nodes: bool) -> None:
    net = network(WIRINGS[1], share={"feedback": "edge"})
    rule = TunablePredify(net.dynamics, shared=shared, nodes=moves_nodes, edges=True)
    torch.manual_seed(1)
    for _ in range(50):
        with torch.no_grad():
            for raw in rule.parameters():
                raw.copy_(5 * torch.randn_like(raw))
            assert min(rule.memory().values()) > -1e-5
            assert all(float(gain) >= 0 for gain in rule.gains(1).source.values())


@pytest.mark.parametrize("learns", [["edges"], ["dynamics", "edges"]])
@pytest.mark.parametrize("wiring", WIRINGS)
def test_the_written_spec_holds_the_numbers_that_are_printed(
    tmp_path: Any, wiring: list[dict[str, Any]], learns: list[str]
) -> None:
    net = network(wiring)
    tuned = task(net, *learns)
    with torch.no_grad():
        for number, raw in enumerate(tuned.parameters()):
            raw += 0.003 * (number + 1)
        moved = tuned.dynamics.gains(1)
    tuned.finish()
    save_network(net, tmp_path)
    text = io.StringIO()
    for table in values_tables(tuned):
        Console(file=text, width=200).print(table)
    written = pcg.load_spec(tmp_path / "spec.yaml")
    again = pcg.build(written, model=chain())
    assert again.dynamics.gains(1).target == net.dynamics.gains(1).target
    assert {edge.name: (edge.gain, edge.error) for edge in again.graph.edges.values()} == {
        edge.name: (edge.gain, edge.error) for edge in net.graph.edges.values()
    }
    for term, gain in again.dynamics.gains(1).target.items():
        assert float(gain) == pytest.approx(float(moved.target[term]), rel=1e-5, abs=1e-6)
    for pair in {*again.dynamics.gains(1).source, *moved.source}:
        one, other = (float(rule.source.get(pair, 0.0)) for rule in (again.dynamics.gains(1), moved))
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
    given = {(edge["source"], edge["target"]): edge for edge in wiring}
    for edge in written.feedback:
        before = given[edge.source, edge.target]
        for name, into in (("gain", edge.target), ("error", "")):
            old, new = before.get(name), getattr(edge, name)
            learned = isinstance(old, float) and old > 0 and into != "input"
            assert (new != old) == (learned or old == "auto")
            if learned:
                assert f"{old:.6g} -> {new:.6g}" in text.getvalue()
    assert (written.dynamics == network(wiring).spec.dynamics) == (learns == ["edges"])


@pytest.mark.parametrize("learns", [["edges"], ["predictors"]])
def test_what_auto_stood_for_is_written_as_a_number(tmp_path: Any, learns: list[str]) -> None:
    """Found again, it would be another number: it depends on the other gains, and on the weights."""
    net = network([{**TO_E1, "gain": 0.2}, TO_INPUT], error="auto")
    tuned = task(net, *learns)
    with torch.no_grad():
        for raw in tuned.parameters():
            raw *= 1.3
        moved = tuned.dynamics.gains(1)
    tuned.finish()
    save_network(net, tmp_path)
    again = pcg.build(tmp_path / "spec.yaml", model=chain()).dynamics.gains(1)
    assert {pair: float(gain) for pair, gain in again.source.items()} == pytest.approx(
        {pair: float(gain) for pair, gain in moved.source.items()}
    )
    assert any(again.source.values())


def test_refuses_where_there_is_nothing_to_learn() -> None:
    with pytest.raises(InputError, match="no edge has a gain of its own"):
        task(network([TO_E1, {**TO_INPUT, "gain": 0.5, "error": 0.0}]), "edges")
    several = {"source": ["input", "e1"], "target": "e3", "error": "auto"}
    with pytest.raises(SpecError, match="error 'auto' is not one number"):
        task(network([{**TO_INPUT, "error": 0.1}, several]), "edges")
    both = task(network([TO_E1]), "dynamics", "edges")
    assert len(both.parameters()) == 4
    with pytest.raises(SpecError, match="shares sum to 1 at most"):
        task(network([{**TO_E1, "gain": 0.9}], allow_negative_memory=True), "edges")
