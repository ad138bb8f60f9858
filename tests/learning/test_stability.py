"""The stability limit of inference against the eigenvalues of the whole Hessian."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import pcgraph as pcg
from pcgraph.errors import RisingEnergyError
from pcgraph.learning import EnergyWatch, learn, stability_margin
from tests.examples import examples

pytestmark = pytest.mark.usefixtures("tiny_networks")


@st.composite
def linear_graphs(draw: st.DrawFn) -> dict[str, Any]:
    """Random graphs of linear predictions, cycles and self edges included; the first node is clamped."""
    names = [f"n{i}" for i in range(draw(st.integers(2, 5)))]
    sizes = {name: draw(st.integers(1, 4)) for name in names}
    pairs = {(draw(st.sampled_from(names[:i])), names[i]) for i in range(1, len(names))}
    pairs |= draw(st.sets(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=6))
    edges = [
        {
            "source": s,
            "target": t,
            "predictor": ["Linear"],
            "precision": draw(st.sampled_from([0.3, 1.0, 2.0])),
        }
        for s, t in sorted(pairs)
    ]
    own = {name: {"rate": draw(st.sampled_from([0.5, 1.0, 2.0]))} for name in names if draw(st.booleans())}
    return {
        "name": "linear",
        "nodes": {name: {"shape": [size]} for name, size in sizes.items()},
        "edges": edges,
        "dynamics": {"rule": "energy", "rate": 1.0, "nodes": own},
    }


def limit_by_hand(network: pcg.PCNetwork, clamped: Tensor) -> float:
    """2 / the largest eigenvalue of R^(1/2) H R^(1/2), from the dense Hessian of one image."""
    moving = [name for name in network.graph.nodes if name != "n0"]
    sizes = [network.graph.nodes[name].shape[0] for name in moving]

    def energy(x: Tensor) -> Tensor:
        values = {"n0": clamped, **dict(zip(moving, x.split(sizes), strict=True))}
        total = torch.zeros((), dtype=torch.float64)
        for edge in network.graph.edges.values():
            error = values[edge.target] - network.predictors[edge.name](values[edge.sources[0]])
            total = total + edge.precision * (error**2).sum() / 2
        return total

    hessian = torch.autograd.functional.hessian(energy, torch.zeros(sum(sizes), dtype=torch.float64))
    nodes = network.spec.dynamics.nodes
    rates = torch.cat([torch.full((n,), nodes[m].rate if m in nodes else 1.0) for m, n in zip(moving, sizes, strict=True)])  # fmt: skip # noqa: E501
    root = rates.double().sqrt().diag()
    return 2 / float(torch.linalg.eigvalsh(root @ hessian @ root).max())


@pytest.mark.heavy
@examples(15)
@given(spec=linear_graphs(), seed=st.integers(0, 99))
def test_energy_never_rises_below_the_limit_and_does_above_it(spec: dict[str, Any], seed: int) -> None:
    network = pcg.build(pcg.parse_spec(spec), seed=seed).double()
    clamp = {"n0": torch.randn(2, spec["nodes"]["n0"]["shape"][0], dtype=torch.float64)}
    limit = limit_by_hand(network, clamp["n0"][0])
    assert stability_margin(network, clamp, iterations=150) == pytest.approx(limit, rel=3e-2)
    nodes = spec["dynamics"]["nodes"]
    for factor in (0.99, 1.1):
        scaled = {name: {"rate": own["rate"] * factor * limit} for name, own in nodes.items()}
        dynamics = {"rule": "energy", "rate": factor * limit, "nodes": scaled}
        other = pcg.build(pcg.parse_spec(spec | {"dynamics": dynamics}), seed=seed).double()
        free = [name for name in spec["nodes"] if name != "n0"]
        start = {n: torch.randn(2, *other.graph.nodes[n].shape, dtype=torch.float64) for n in free}
        run = pcg.Scheduler(other).run(clamp=clamp | start, free=free, steps=60, record=["energy"])
        total = [float(sum(series[t].sum() for series in run.energy.values())) for t in range(61)]
        rises = [after - before for before, after in itertools.pairwise(total)]
        assert EnergyWatch.applies(other)
        watched = {"clamp": clamp | start, "free": free, "steps": 200, "record": []}
        if factor < 1:
            pcg.Scheduler(other).run(watch=EnergyWatch(other), **watched)
            assert max(rises) <= 1e-9 * total[0]
        else:
            assert max(rises[-3:]) > 0
            with pytest.raises(RisingEnergyError, match="the energy rises") as caught:
                pcg.Scheduler(other).run(watch=EnergyWatch(other), **watched)
            (told,) = re.findall(r"to ([\d.]+) times", str(caught.value))
            assert float(told) == pytest.approx(1 / 1.1, rel=5e-2)


def test_divergence_is_noticed_and_says_by_how_much_the_rate_is_too_high() -> None:
    text = """
    name: fast
    nodes: {a: {shape: [3]}, b: {shape: [3]}, c: {shape: [3]}}
    edges: [{source: a, target: b, predictor: [Linear]}, {source: b, target: c, predictor: [Linear]}]
    dynamics: {rule: energy, rate: 4.0}
    """
    network = pcg.build(pcg.parse_spec(text))
    clamp = {"a": torch.randn(2, 3), "c": torch.randn(2, 3)}
    margin = stability_margin(network, clamp)
    assert margin < 1
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    with pytest.raises(pcg.DivergenceError, match=f"to {margin:.2g} times what they are"):
        next(learn(network, [clamp], optimizer, steps=500))
    slower = pcg.parse_spec(text.replace("4.0", f"{4 * margin * 0.95}"))
    (update,) = learn(pcg.build(slower), [clamp], optimizer, steps=500)
    assert update.total < 100


def test_the_watch_knows_where_energy_may_rise() -> None:
    text = """
    name: still
    nodes: {a: {shape: [6]}, b: {shape: [5]}, c: {shape: [4]}}
    edges:
      - {source: a, target: b, predictor: [Linear], precision: learned}
      - {source: b, target: c, predictor: [Tanh, Linear], precision: 2.0}
      - {source: c, target: b, predictor: [Tanh, Linear]}
    dynamics: {rule: energy, rate: 0.3}
    """
    network = pcg.build(pcg.parse_spec(text))
    with torch.no_grad():
        network.energy("a->b").log_precision.copy_(torch.linspace(-1, 1, 5))
    for initial in ("clamp", "mask"):
        mask = {"c": torch.tensor([True, True, False, False])} if initial == "mask" else {}
        run = pcg.Scheduler(network).run(
            torch.randn(3, 6),
            clamp={"c": torch.randn(3, 4)},
            mask=mask,
            steps=300,
            watch=EnergyWatch(network),
        )
        assert sum(float(series[-1].sum()) for series in run.energy.values()) < 100
    for change in (
        ("target: c,", "target: c, delay: 2,"),
        ("rate: 0.3", "rate: 0.3, optimizer: momentum"),
        ("rate: 0.3", "rate: 0.3, temperature: 0.1"),
        ("target: c,", "target: c, delay: 0,"),
    ):
        assert not EnergyWatch.applies(pcg.build(pcg.parse_spec(text.replace(*change))))


def test_a_margin_leaves_out_what_a_mask_holds() -> None:
    """The limit of the free half alone, from the weights; the whole node's is lower."""
    text = """
    name: half
    nodes: {a: {shape: [4]}, b: {shape: [4]}}
    edges: [{source: a, target: b, predictor: [{Linear: {bias: false}}]}]
    dynamics: {rule: energy, rate: 1.0}
    """
    network = pcg.build(pcg.parse_spec(text)).double()
    weight = network.predictors["a->b"].requires_grad_(False).weight
    held = torch.tensor([True, True, False, False])
    with torch.no_grad():
        weight[:, :2] *= 5
    limit = 2 / float(torch.linalg.eigvalsh(weight[:, 2:].T @ weight[:, 2:]).max())
    with torch.no_grad():
        weight[:, 2:] *= (1.3 * limit) ** 0.5
    scheduler, b = pcg.Scheduler(network), torch.zeros(1, 4)
    with pytest.raises(RisingEnergyError, match=r"to 0\.77 times"):
        scheduler.run(
            torch.randn(1, 4), clamp={"b": b}, mask={"a": held}, steps=200, watch=EnergyWatch(network)
        )


def test_without_a_moving_state_there_is_no_margin() -> None:
    text = """
    name: held
    nodes: {a: {shape: [3]}, b: {shape: [3]}}
    edges: [{source: a, target: b, predictor: [Linear]}]
    dynamics: {rule: energy}
    """
    network = pcg.build(pcg.parse_spec(text))
    with pytest.raises(pcg.InputError, match="no state moves"):
        stability_margin(network, {"a": torch.zeros(1, 3), "b": torch.zeros(1, 3)})
