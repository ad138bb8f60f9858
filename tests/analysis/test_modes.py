"""Leading modes against those of whole matrices, and products against differences."""

from __future__ import annotations

import cProfile
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pcgraph as pcg
from pcgraph.analysis import modes
from pcgraph.analysis.jacobian import StepJacobian
from pcgraph.analysis.modes import Mode, leading_modes
from pcgraph.analysis.settling import stability
from pcgraph.errors import InputError
from pcgraph.state import State
from tests.analysis.wirings import benchmark

pytestmark = pytest.mark.usefixtures("tiny_networks")
script = benchmark()


def delayed(rule: str, order: str) -> dict[str, Any]:
    """Four nodes of 20 to 26 units, whose edges have delays of 1 to 4 and close a cycle."""
    dynamics = {"rate": 0.3} if rule == "energy" else {"feedforward": 0.5, "feedback": 0.4, "error": 0.05}
    pairs = [("c", "a", 3), ("d", "b", 4), ("d", "c", 1), ("b", "b", 2)]
    return {
        "name": "delayed",
        "nodes": {name: {"shape": [size]} for name, size in zip("iabcd", (5, 20, 22, 24, 26), strict=True)},
        "edges": [{"source": s, "target": t, "predictor": ["Linear"]} for s, t in ("ia", "ab", "bc", "cd")],
        "feedback": [
            {"source": s, "target": t, "predictor": ["Linear"], "delay": delay} for s, t, delay in pairs
        ],
        "dynamics": {"rule": rule, **dynamics},
        "schedule": {"order": order},
    }


def started(spec: dict[str, Any], batch: int = 1) -> tuple[pcg.Scheduler, State]:
    network = pcg.build(pcg.parse_spec(spec)).double()
    first = next(iter(network.graph.nodes.values()))
    scheduler = pcg.Scheduler(network)
    return scheduler, scheduler.start(torch.randn(batch, *first.shape, dtype=torch.float64))


def whole(scheduler: pcg.Scheduler, state: State) -> tuple[np.ndarray, list[str], list[int]]:
    """The step's matrix by columns, of a linear network: x moves alone, then y, ..., then each past."""
    moving = [name for name in state.values if name not in state.fixed]
    sizes = [state.values[name].numel() for name in moving]

    def step(values: dict[str, Tensor], past: dict[str, tuple[Tensor, ...]]) -> Tensor:
        begun = replace(state, values={**state.values, **values}, past={**state.past, **past})
        after = scheduler.step(begun)
        return torch.cat(
            [after.values[n].flatten() for n in moving]
            + [t.flatten() for n in moving for t in after.past.get(n, ())]
        )

    zeros = {name: torch.zeros_like(state.values[name]) for name in moving}
    none = {n: tuple(torch.zeros_like(t) for t in state.past[n]) for n in moving if n in state.past}
    rest = step(zeros, none)
    columns = []
    for name in moving:
        for place in range(zeros[name].numel()):
            value = zeros[name].clone()
            value.view(-1)[place] = 1
            columns.append(step({**zeros, name: value}, none) - rest)
    for name, kept in none.items():
        for index, tensor in enumerate(kept):
            for place in range(tensor.numel()):
                value = tensor.clone()
                value.view(-1)[place] = 1
                columns.append(step(zeros, {**none, name: (*kept[:index], value, *kept[index + 1 :])}) - rest)
    return torch.stack(columns, dim=1).numpy(), moving, sizes


def expected(scheduler: pcg.Scheduler, state: State, count: int) -> list[Mode]:
    matrix, moving, sizes = whole(scheduler, state)
    values, vectors = np.linalg.eig(matrix)
    found = []
    for place in np.argsort(-np.abs(values), kind="stable")[:count]:
        squares = np.split(np.abs(vectors[: sum(sizes), place]) ** 2, np.cumsum(sizes)[:-1])
        total = sum(part.sum() for part in squares)
        shares = {name: part.sum() / total for name, part in zip(moving, squares, strict=True)}
        found.append(Mode(complex(values[place]), shares, 0))
    return found


@pytest.mark.parametrize(
    ("rule", "order", "small"),
    [
        ("predify", "synchronous", 0),
        ("predify", "sweep", 0),
        ("energy", "synchronous", 0),
        ("energy", "sweep", 0),
        ("predify", "sweep", 1000),
    ],
)
def test_they_are_those_of_the_whole_matrix(
    rule: str, order: str, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modes, "SMALL", small)
    scheduler, state = started(delayed(rule, order))
    found, exact = leading_modes(scheduler, state, 4), expected(scheduler, state, 4)
    assert [one.modulus for one in found] == pytest.approx([one.modulus for one in exact], abs=1e-6)
    radius = pcg.spectral_radius(scheduler, state, tolerance=1e-9)
    assert radius == pytest.approx(found[0].modulus, abs=1e-6)
    for one in found:
        twin = min(exact, key=lambda other: abs(other.eigenvalue - one.eigenvalue))
        conjugate = min(exact, key=lambda other: abs(other.eigenvalue.conjugate() - one.eigenvalue))
        assert dict(one.shares) == pytest.approx(twin.shares, abs=1e-5) or dict(one.shares) == pytest.approx(
            conjugate.shares, abs=1e-5
        )
        assert sum(one.shares.values()) == pytest.approx(1)


def row(feedback: list[dict[str, Any]], count: int = 8) -> tuple[pcg.Scheduler, State]:
    """Linear nodes of 12 units, one after the other, in float32; each keeps 0.7 of itself at a step."""
    names = ["i", *"abcdefgh", *(f"n{place}" for place in range(8, count))]
    spec = {
        "name": "row",
        "nodes": {name: {"shape": [12]} for name in names},
        "edges": [{"source": s, "target": t, "predictor": ["Linear"]} for s, t in pairwise(names)],
        "feedback": feedback or "none",
        "dynamics": {"feedforward": 0.3, "feedback": 0.0, "error": 0.0},
    }
    scheduler = pcg.Scheduler(pcg.build(pcg.parse_spec(spec)))
    return scheduler, scheduler.start(torch.randn(2, 12))


@pytest.mark.parametrize("small", [0, 1000])
def test_a_row_of_like_nodes_keeps_what_each_keeps(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The matrix is triangular, with 0.7 on its diagonal; Arnoldi on all of it is far off in float32."""
    monkeypatch.setattr(modes, "SMALL", small)
    scheduler, state = row([])
    found = leading_modes(scheduler, state, 3)
    assert [one.eigenvalue for one in found] == pytest.approx([0.7] * 3, abs=1e-6)
    assert pcg.spectral_radius(scheduler, state) == pytest.approx(0.7, abs=1e-6)


def test_a_long_row_takes_work_in_proportion() -> None:
    def calls(count: int) -> int:
        scheduler, state = row([], count)
        profile = cProfile.Profile()
        profile.runcall(pcg.spectral_radius, scheduler, state)
        return sum(entry.callcount for entry in profile.getstats())

    calls(40)  # what is imported on the way
    assert calls(160) < 8 * calls(40)  # 16 if it were quadratic


def test_a_mode_lives_where_nodes_act_back_on_each_other() -> None:
    """By hand: c <- 0.5 c + 0.2 B d + ..., d <- 0.7 d + 0.3 F c, whatever comes before and after them."""
    scheduler, state = row([{"source": "d", "target": "c", "predictor": ["Linear"], "gain": 0.2}])
    made = scheduler.network.predictors
    there, back = (made[name].weight.detach().double().numpy() for name in ("c->d", "d->c"))
    block = np.block([[0.5 * np.eye(12), 0.2 * back], [0.3 * there, 0.7 * np.eye(12)]])
    values, vectors = np.linalg.eig(block)
    most = np.abs(values).argmax()
    first, *_ = leading_modes(scheduler, state, 3)
    assert first.modulus == pytest.approx(abs(values[most]), abs=1e-5)
    assert abs(values[most]) > 0.72  # and so it is not one of the others', which is 0.7
    squares = np.abs(vectors[:, most]) ** 2
    shares = {"c": squares[:12].sum() / squares.sum(), "d": squares[12:].sum() / squares.sum()}
    assert {name: share for name, share in first.shares.items() if share} == pytest.approx(shares, abs=1e-4)


def test_products_are_derivatives_of_the_step() -> None:
    """Of a convolutional network with ReLUs and pooling: by central differences, and adjoint to each other.

    States that are exactly zero would tie in the pooling, so all are moved away from there.
    """
    network = pcg.build("digits").double()
    scheduler = pcg.Scheduler(network)
    state = scheduler.start(torch.randn(2, *network.graph.nodes["input"].shape).double())
    values = {n: v + torch.randn_like(v) * (n not in state.fixed) for n, v in state.values.items()}
    state = replace(state, values=values)
    jacobian = StepJacobian(scheduler, state)
    one, other = jacobian.random(), jacobian.random()
    product = jacobian.times(one)
    assert float(other @ product) == pytest.approx(float(jacobian.transposed(other) @ one), rel=1e-9)

    def moved(by: float) -> dict[str, Tensor]:
        change = jacobian.values(one)
        values = {n: v + by * change[n] if n in change else v for n, v in state.values.items()}
        return dict(scheduler.step(replace(state, values=values)).values)

    ahead, back = moved(1e-8), moved(-1e-8)
    for name, part in jacobian.values(product).items():
        torch.testing.assert_close((ahead[name] - back[name]) / 2e-8, part, rtol=1e-5, atol=1e-6)


def test_a_mode_knows_its_image() -> None:
    """Of two images of a saturating network, the one near zero has the larger slope."""
    spec = {
        "name": "two",
        "nodes": {"a": {"shape": [1]}, "b": {"shape": [3]}},
        "edges": [{"source": "a", "target": "b", "predictor": ["Linear", "Tanh"], "delay": 1}],
        "feedback": [{"source": "b", "target": "b", "predictor": [{"Linear": {"bias": False}}, "Tanh"]}],
        "dynamics": {"feedforward": 0.1, "feedback": 0.9, "error": 0.0},
    }
    network = pcg.build(pcg.parse_spec(spec)).double()
    with torch.no_grad():
        network.predictors["b->b"][0].weight.copy_(torch.eye(3) * torch.tensor([0.9, 0.5, 0.1]))
    scheduler = pcg.Scheduler(network)
    value = torch.tensor([[3.0, 3.0, 3.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    state = scheduler.start(clamp={"a": torch.zeros(2, 1), "b": value}, free=["b"])
    first, second, *_ = leading_modes(scheduler, state, 3)
    assert (first.image, second.image) == (1, 1)
    assert first.eigenvalue == pytest.approx(0.9 * 0.9)
    assert (first.period, dict(first.shares)) == (float("inf"), {"b": 1.0})


def test_periods() -> None:
    assert Mode(-0.5 + 0j, {}, 0).period == pytest.approx(2)
    assert Mode(0.5j, {}, 0).period == pytest.approx(4)
    assert Mode(-0.5j, {}, 0).period == pytest.approx(4)


def test_adam_is_refused() -> None:
    spec = delayed("energy", "synchronous")
    spec["dynamics"] = {"rule": "energy", "optimizer": "adam"}
    with pytest.raises(InputError, match="depend on the time"):
        leading_modes(*started(spec))


@pytest.mark.parametrize("seed", range(10))
def test_what_it_says_is_what_300_steps_do(seed: int) -> None:
    """Linear networks, of both rules and orders; `benchmarks/stability.py` looks at hundreds of them."""
    found = script.look(seed, "linear")
    assert found.radius == pytest.approx(found.exact, rel=1e-6)
    if found.foretold != "between":
        assert found.settles == (found.radius < 1)


def test_where_images_do_not_settle_the_start_is_linearised() -> None:
    """x <- -tanh(g x) goes round in a cycle of 2 for g > 1, and its slope at 0 is -g."""
    spec = {
        "name": "flip",
        "nodes": {"a": {"shape": [1]}, "b": {"shape": [1]}},
        "edges": [{"source": "a", "target": "b", "predictor": [{"Linear": {"bias": False}}]}],
        "feedback": [{"source": "b", "target": "b", "predictor": [{"Linear": {"bias": False}}, "Tanh"]}],
        "dynamics": {"feedforward": 0.0, "feedback": 1.0, "error": 0.0},
    }
    network = pcg.build(pcg.parse_spec(spec)).double()
    scheduler = pcg.Scheduler(network)
    begun = torch.tensor([[0.1]], dtype=torch.float64)
    found = []
    for weight in (-3.0, -0.5):
        with torch.no_grad():
            network.predictors["b->b"][0].weight.fill_(weight)
        found.append(
            stability(scheduler, scheduler.start(clamp={"a": torch.zeros(1, 1), "b": begun}, free=["b"]))
        )
    cycle, rest = found
    slope = 1 / torch.cosh(torch.tensor(0.3)).item() ** 2
    assert (cycle.runs[0].outcome, cycle.runs[0].period, cycle.settled) == ("cycle", 2, 0)
    assert cycle.spectral_radius == pytest.approx(3 * slope)
    assert cycle.modes[0].eigenvalue.real < 0
    assert (rest.runs[0].outcome, rest.settled) == ("settled", 1)
    assert rest.spectral_radius == pytest.approx(0.5, rel=1e-3)
