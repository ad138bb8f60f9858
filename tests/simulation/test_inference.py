"""How states follow the energy: against torch's optimizers, closed forms, and linear algebra."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

import pcgraph as pcg
from tests.examples import examples

pytestmark = pytest.mark.usefixtures("tiny_networks")

Optimizer = torch.optim.Optimizer
Make = Callable[[list[Any]], Optimizer]


def ring(rate: Any = 0.1, steps: int = 12, **dynamics: Any) -> dict[str, Any]:
    """Three areas in a cycle with a self edge, tied to an image; precisions and rates of their own."""
    return {
        "name": "ring",
        "nodes": {"image": {"shape": [6]}, "a": {"shape": [4]}, "b": {"shape": [5]}, "c": {"shape": [3]}},
        "edges": [
            {"source": "image", "target": "a", "predictor": ["Linear", "Tanh"], "precision": 2.0},
            {"source": "a", "target": "b", "predictor": ["Tanh", "Linear"]},
            {"source": "b", "target": "c", "predictor": ["Tanh", "Linear"], "precision": 0.5},
            {"source": "c", "target": "a", "predictor": ["Tanh", "Linear"]},
            {"source": "b", "target": "b", "predictor": ["Tanh", "Linear"], "precision": 0.3},
        ],
        "dynamics": {"rule": "energy", "rate": rate, "nodes": {"b": {"rate": 2 * rate}}, **dynamics},
        "schedule": {"steps": steps},
    }


def energy(network: pcg.PCNetwork, values: dict[str, Tensor]) -> Tensor:
    """The sum over all edges, written out."""
    total = torch.zeros((), dtype=torch.float64)
    for edge in network.graph.edges.values():
        error = values[edge.target] - network.predictors[edge.name](values[edge.sources[0]])
        total = total + edge.precision * error.square().sum() / 2
    return total


def by_torch(
    network: pcg.PCNetwork, start: dict[str, Tensor], make: Make, held: Tensor, schedule: Any = None
) -> list[dict[str, Tensor]]:
    """States as the parameters of an optimizer of torch; half of c is held."""
    leaves = {name: start[name].clone().requires_grad_() for name in ("a", "b", "c")}
    rates = network.dynamics.rate
    optimizer = make([{"params": [leaf], "lr": rates[name]} for name, leaf in leaves.items()])
    decay = schedule(optimizer) if schedule else None
    history = [{name: leaf.detach().clone() for name, leaf in leaves.items()}]
    for _ in range(network.spec.schedule.steps):
        optimizer.zero_grad()
        energy(network, {"image": start["image"], **leaves}).backward()
        before = leaves["c"].detach().clone()
        optimizer.step()
        if decay is not None:
            decay.step()
        leaves["c"].data = torch.where(held, before, leaves["c"].data)
        history.append({name: leaf.detach().clone() for name, leaf in leaves.items()})
    return history


CASES: dict[str, tuple[dict[str, Any], Make, Any]] = {
    "momentum": ({"optimizer": "momentum"}, lambda p: torch.optim.SGD(p, momentum=0.9), None),
    "momentum 0.5": (
        {"optimizer": "momentum", "betas": [0.5, 0.9]},
        lambda p: torch.optim.SGD(p, momentum=0.5),
        None,
    ),
    "adam": ({"optimizer": "adam"}, lambda p: torch.optim.Adam(p), None),
    "adam with betas": (
        {"optimizer": "adam", "betas": [0.8, 0.95]},
        lambda p: torch.optim.Adam(p, betas=(0.8, 0.95)),
        None,
    ),
    "exponential": (
        {"decay": {"exponential": 0.8}},
        lambda p: torch.optim.SGD(p),
        lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.8),
    ),
    "inverse": (
        {"decay": {"inverse": 4}},
        lambda p: torch.optim.SGD(p),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t / 4)),
    ),
    "cosine": (
        {"decay": {"cosine": 12}},
        lambda p: torch.optim.SGD(p),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 12),
    ),
    "adam with cosine": (
        {"optimizer": "adam", "decay": {"cosine": 12}},
        lambda p: torch.optim.Adam(p),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 12),
    ),
    "momentum with inverse": (
        {"optimizer": "momentum", "decay": {"inverse": 5}},
        lambda p: torch.optim.SGD(p, momentum=0.9),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t / 5)),
    ),
}


def case(name: str) -> tuple[pcg.PCNetwork, dict[str, Any], list[dict[str, Tensor]]]:
    dynamics, make, schedule = CASES[name]
    network = pcg.build(pcg.parse_spec(ring(**dynamics))).double()
    held = torch.tensor([True, False, False])
    given = {"image": torch.randn(2, 6, dtype=torch.float64), "c": torch.randn(2, 3, dtype=torch.float64)}
    arguments = {"clamp": given, "mask": {"c": held}}
    start = dict(pcg.Scheduler(network).start(**arguments).values)
    return network, arguments, by_torch(network, start, make, held, schedule)


@pytest.mark.parametrize("name", CASES)
def test_states_move_as_parameters_of_torchs_optimizers(name: str) -> None:
    network, arguments, expected = case(name)
    run = pcg.Scheduler(network).run(record=["values"], **arguments)
    for step, values in enumerate(expected):
        for node, value in values.items():
            torch.testing.assert_close(run.values[node][step], value, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["momentum", "adam with cosine"])
def test_by_hand_compiled_and_checkpointed_it_is_the_same(name: str) -> None:
    network, arguments, expected = case(name)
    scheduler = pcg.Scheduler(network)
    state = scheduler.start(**arguments)
    kept = {node: tuple(one.clone() for one in moments) for node, moments in state.moments.items()}
    following = scheduler.step(state)
    for node, moments in state.moments.items():  # a step changes nothing
        assert all(torch.equal(one, other) for one, other in zip(moments, kept[node], strict=True))
    for _ in range(11):
        following = scheduler.step(following)
    compiled = pcg.Scheduler(network).compile(backend="eager").run(record=[], **arguments).state
    # the gradient through a run, by plain autograd and with checkpoints
    gradients = []
    for checkpoint in (False, True):
        image = arguments["clamp"]["image"].clone().requires_grad_()
        given = {**arguments, "clamp": {**arguments["clamp"], "image": image}}
        run = scheduler.run(record=["values"], differentiable=True, checkpoint=checkpoint, **given)
        gradients.append(torch.autograd.grad(run.state.values["b"].sin().sum(), image)[0])
        for node, value in expected[-1].items():
            torch.testing.assert_close(run.state.values[node], value)
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[0].abs().max() > 0
    for node, value in expected[-1].items():
        torch.testing.assert_close(following.values[node], value)
        torch.testing.assert_close(compiled.values[node], value)


# ---- linear networks ----------------------------------------------------------------------------


@st.composite
def linear_graphs(draw: st.DrawFn) -> dict[str, Any]:
    """Random graphs of linear predictions with cycles and self edges; the first node is clamped."""
    names = [f"n{i}" for i in range(draw(st.integers(2, 5)))]
    pairs = {(draw(st.sampled_from(names[:i])), names[i]) for i in range(1, len(names))}
    pairs |= draw(st.sets(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=6))
    precision = st.sampled_from([0.3, 1.0, 2.0])
    bundles = draw(st.booleans())
    own = {name: {"bundle": f"into_{name}", "precision": draw(precision)} for name in names}
    edges = [
        {
            "source": source,
            "target": target,
            "predictor": ["Linear"],
            **(own[target] if bundles else {"precision": draw(precision)}),
        }
        for source, target in sorted(pairs)
    ]
    nodes = {name: {"shape": [draw(st.integers(1, 4))]} for name in names}
    dynamics = {"rule": "energy", "rate": 1.0}
    return {"name": "linear", "nodes": nodes, "edges": edges, "dynamics": dynamics}


def system(network: pcg.PCNetwork, clamped: Tensor) -> tuple[Tensor, Tensor]:
    """H and g of the energy ``x H x / 2 - g x`` of the free states of one image, from the weights alone."""
    sizes = {name: node.shape[0] for name, node in network.graph.nodes.items()}
    ends = dict(zip(sizes, itertools.accumulate(sizes.values()), strict=True))
    place = {name: slice(ends[name] - size, ends[name]) for name, size in sizes.items()}
    total = sum(sizes.values())
    H, g = torch.zeros(total, total, dtype=torch.float64), torch.zeros(total, dtype=torch.float64)
    for first, *others in network.graph.terms.values():
        rows = torch.zeros(sizes[first.target], total, dtype=torch.float64)  # the error is rows @ x - bias
        rows[:, place[first.target]] += torch.eye(sizes[first.target], dtype=torch.float64)
        bias = torch.zeros(sizes[first.target], dtype=torch.float64)
        for edge in (first, *others):
            layer = network.predictors[edge.name]
            assert isinstance(layer, nn.Linear)
            rows[:, place[edge.sources[0]]] -= layer.weight.detach()
            bias += layer.bias.detach()
        H += first.precision * rows.T @ rows
        g += first.precision * rows.T @ bias
    held, free = slice(0, sizes["n0"]), slice(sizes["n0"], total)
    return H[free, free], g[free] - H[free, held] @ clamped


def with_rate(spec: dict[str, Any], rate: float, **schedule: Any) -> pcg.Spec:
    return pcg.parse_spec({**spec, "dynamics": {"rule": "energy", "rate": rate}, "schedule": schedule})


@examples(15)
@given(spec=linear_graphs(), seed=st.integers(0, 99), blocks=st.booleans())
def test_linear_networks_converge_to_the_solution_of_their_system(
    spec: dict[str, Any], seed: int, blocks: bool
) -> None:
    network = pcg.build(pcg.parse_spec(spec), seed=seed).double()
    clamped = torch.randn(spec["nodes"]["n0"]["shape"][0], dtype=torch.float64)
    H, g = system(network, clamped)
    eigenvalues = torch.linalg.eigvalsh(H)
    rate = 1.9 / float(eigenvalues[-1])  # below the limit of 2
    slowest = max(1 - rate * float(eigenvalues[0]), 0.9)  # the fastest is at 1 - 1.9
    steps = int(-25 / math.log(slowest)) + 1
    assume(steps < 10_000)  # else nearly singular: nothing to learn from waiting longer
    order = [[name] for name in reversed(spec["nodes"])] if blocks else "synchronous"
    other = pcg.build(with_rate(spec, rate, order=order), seed=seed).double()
    run = pcg.Scheduler(other).run(clamped[None], steps=steps, record=[])
    found = torch.cat([run.state.values[name][0] for name in spec["nodes"] if name != "n0"])
    expected = torch.linalg.solve(H, g)
    assert float((found - expected).abs().max()) <= 1e-8 * max(1.0, float(expected.abs().max()))


def test_blocks_of_single_units_are_gauss_seidel() -> None:
    """At the rate 1 / H_ii of each node of one unit, a step is one sweep of Gauss and Seidel."""
    names = ["n0", "n1", "n2", "n3"]
    spec = {
        "name": "gauss",
        "nodes": {name: {"shape": [1]} for name in names},
        "edges": [
            {"source": s, "target": t, "predictor": ["Linear"]} for s, t in itertools.permutations(names, 2)
        ],
    }
    network = pcg.build(with_rate(spec, 1.0)).double()
    H, g = system(network, torch.tensor([0.7], dtype=torch.float64))
    rates = {name: {"rate": 1 / float(H[i, i])} for i, name in enumerate(names[1:])}
    order = [["n2"], ["n1"], ["n3"]]
    whole = {**spec, "dynamics": {"rule": "energy", "nodes": rates}, "schedule": {"order": order}}
    scheduler = pcg.Scheduler(pcg.build(pcg.parse_spec(whole)).double())
    state = scheduler.start(torch.tensor([[0.7]], dtype=torch.float64))
    x = torch.cat([state.values[name][0] for name in names[1:]])
    for _ in range(5):
        state = scheduler.step(state)
        for i in (1, 0, 2):
            x[i] = (g[i] - H[i] @ x + H[i, i] * x[i]) / H[i, i]
        torch.testing.assert_close(torch.cat([state.values[name][0] for name in names[1:]]), x)


# ---- Langevin -----------------------------------------------------------------------------------


def test_langevin_samples_have_the_covariance_of_the_energy() -> None:
    """Of exp(-F / T) that is T H^-1; at a finite rate T (H (1 - rate H / 2))^-1, exactly."""
    spec = {
        "name": "linear",
        "nodes": {"n0": {"shape": [2]}, "n1": {"shape": [2]}, "n2": {"shape": [1]}},
        "edges": [
            {"source": "n0", "target": "n1", "predictor": ["Linear"]},
            {"source": "n1", "target": "n2", "predictor": ["Linear"], "precision": 2.0},
            {"source": "n2", "target": "n1", "predictor": ["Linear"], "precision": 0.5},
        ],
        "dynamics": {"rule": "energy", "rate": 0.2, "temperature": 0.7},
        "schedule": {"initial": "zeros"},
    }
    network = pcg.build(pcg.parse_spec(spec)).double()
    clamped = torch.tensor([0.5, -1.0], dtype=torch.float64)
    H, g = system(network, clamped)
    count = 20_000  # independent chains
    run = pcg.Scheduler(network).run(
        clamped.expand(count, 2), steps=60, record=[], generator=torch.Generator().manual_seed(3)
    )
    found = torch.cat([run.state.values[name] for name in ("n1", "n2")], dim=1)
    one = torch.eye(3, dtype=torch.float64)
    expected = 0.7 * torch.linalg.inv(H @ (one - 0.1 * H))
    variance = expected.diag()
    # standard errors of a mean, and of a covariance of normal numbers, over `count` samples
    mean_error = (variance / count).sqrt()
    assert ((found.mean(0) - torch.linalg.solve(H, g)).abs() < 4.5 * mean_error).all()
    spread = ((variance[:, None] * variance + expected**2) / count).sqrt()
    assert ((found.T.cov() - expected).abs() < 4.5 * spread).all()
    assert ((found.T.cov() - 0.7 * torch.linalg.inv(H)).abs() / spread).max() > 4.5  # it can tell


def test_noise_comes_from_the_generator_alone() -> None:
    network = pcg.build(pcg.parse_spec(ring(temperature=0.1)))
    scheduler, image = pcg.Scheduler(network), torch.randn(2, 6)

    def run(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return scheduler.run(image, record=[], generator=generator).state.values["b"]

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    generator = torch.Generator().manual_seed(1)
    state = scheduler.start(image, generator=generator)
    for _ in range(12):
        state = scheduler.step(state, generator=generator)
    assert torch.equal(state.values["b"], run(1))
    assert torch.equal(state.values["image"], image)
    compiled = pcg.Scheduler(network).compile(backend="eager")
    found = compiled.run(image, record=[], generator=torch.Generator().manual_seed(1)).state.values["b"]
    torch.testing.assert_close(found, run(1))
    leaf = image.clone().requires_grad_()
    gradients = []
    for checkpoint in (False, True):
        generator = torch.Generator().manual_seed(1)
        kept = scheduler.run(leaf, differentiable=True, checkpoint=checkpoint, generator=generator).state
        gradients.append(torch.autograd.grad(kept.values["b"].sum(), leaf)[0])
    torch.testing.assert_close(gradients[0], gradients[1])
