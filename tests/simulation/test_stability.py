"""The largest eigenvalue of a step, and the limits of single edges, against whole Jacobians and long runs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.analysis.stability import edge_limits, spectral_radius, step_eigenvalue
from pcgraph.dynamics.amplification import pull, stretch
from pcgraph.dynamics.eigenvalues import largest_eigenvalue
from pcgraph.errors import InputError
from pcgraph.state import State


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def wiring(seed: int, rule: str, order: str, layers: list[str]) -> dict[str, Any]:
    """A random graph of predictions between vectors: cycles, self edges and delays up to 4 included."""
    draw = random.Random(seed)
    names = [f"n{i}" for i in range(draw.randint(2, 4))]
    sizes = {name: draw.randint(1, 4) for name in names}
    up = {(draw.choice(names[:i]), names[i]) for i in range(1, len(names))}
    back = {(draw.choice(names), draw.choice(names)) for _ in range(draw.randint(1, 5))} - up

    def edge(source: str, target: str, delays: list[int | None]) -> dict[str, Any]:
        delay = draw.choice(delays)
        return {"source": source, "target": target, "predictor": layers} | (
            {} if delay is None else {"delay": delay}
        )

    edges = [edge(s, t, [None, None, 1, 2, 4]) for s, t in sorted(up)]
    feedback = [edge(s, t, [None, None, 2, 3, 4]) for s, t in sorted(back)]
    if rule == "energy":
        dynamics: dict[str, Any] = {"rule": "energy", "rate": draw.choice([0.1, 0.4, 0.8])}
        if draw.random() < 0.3:
            dynamics["optimizer"], dynamics["betas"] = "momentum", [0.5, 0.9]
    else:
        gains = {"feedforward": draw.choice([0.3, 0.6]), "feedback": draw.choice([0.1, 0.4])}
        scale = draw.choice(["sum", "normalized"])
        dynamics = {"rule": "predify", **gains, "error": draw.choice([0.01, 0.5, 2.0]), "gradient": scale}
    return {
        "name": "wiring",
        "nodes": {name: {"shape": [size]} for name, size in sizes.items()},
        "edges": edges,
        "feedback": feedback,
        "dynamics": dynamics,
        "schedule": {"order": order},
    }


def made(spec: dict[str, Any], seed: int, size: float = 1.0) -> tuple[pcg.Scheduler, State]:
    """The scheduler and a start of all but the first node, which is clamped, at random states."""
    network = pcg.build(pcg.parse_spec(spec), seed=seed).double()
    with torch.no_grad():
        for parameter in network.predictors.parameters():
            parameter.mul_(size)
    generator = torch.Generator().manual_seed(seed)
    first, *others = network.graph.nodes.values()
    given = {
        n.name: torch.randn(1, *n.shape, generator=generator, dtype=torch.float64) for n in (first, *others)
    }
    scheduler = pcg.Scheduler(network)
    return scheduler, scheduler.start(clamp=given, free=[node.name for node in others])


def parts_of(state: State) -> list[Tensor]:
    free = [name for name in state.values if name not in state.fixed]
    kept = [*state.past.items(), *state.moments.items()]
    return [*(state.values[n] for n in free), *(t for n, ts in kept if n in free for t in ts)]


def with_parts(state: State, flat: Tensor) -> State:
    """The state with other numbers in the place of `parts_of`."""
    pieces = iter(
        piece.view_as(part)
        for piece, part in zip(flat.split([p.numel() for p in parts_of(state)]), parts_of(state), strict=True)
    )
    free = [name for name in state.values if name not in state.fixed]
    values = {**state.values, **{name: next(pieces) for name in free}}
    past = {n: tuple(next(pieces) for _ in ts) if n in free else ts for n, ts in state.past.items()}
    moments = {n: tuple(next(pieces) for _ in ts) for n, ts in state.moments.items()}
    return replace(state, values=values, past=past, moments=moments)


def exact_radius(scheduler: pcg.Scheduler, state: State) -> float:
    """From all eigenvalues of the Jacobian on states, remembered pasts and momentum, column by column.

    A step of a linear network is affine, so its columns are differences of plain steps.
    """
    flat = torch.cat([part.flatten() for part in parts_of(state)])

    def step(x: Tensor) -> Tensor:
        return torch.cat([part.flatten() for part in parts_of(scheduler.step(with_parts(state, x)))])

    rest = step(torch.zeros_like(flat))
    columns = [step(unit) - rest for unit in torch.eye(len(flat), dtype=flat.dtype)]
    return float(torch.linalg.eigvals(torch.stack(columns, dim=1)).abs().max())


CASES = [(rule, order) for rule in ("predify", "energy") for order in ("synchronous", "sweep")]


@pytest.mark.parametrize(("rule", "order"), CASES)
def test_it_is_the_largest_eigenvalue_of_linear_networks(rule: str, order: str) -> None:
    for seed in range(8):
        scheduler, state = made(wiring(seed, rule, order, ["Linear"]), seed)
        exact = exact_radius(scheduler, state)
        found = spectral_radius(scheduler, state, tolerance=1e-9)
        assert found == pytest.approx(exact, rel=1e-6, abs=1e-6), seed


def long_runs(seeds: range) -> None:
    """300 steps settle where the radius is below 0.98, and do not where it is above 1.02."""
    seen = {True: 0, False: 0}
    for seed in seeds:
        rule, order = CASES[seed % 4]
        size = (0.5, 1.0, 2.5)[seed % 3]
        scheduler, state = made(wiring(seed, rule, order, ["Linear"]), seed, size)
        radius = spectral_radius(scheduler, state, tolerance=1e-6)
        if 0.98 <= radius <= 1.02:
            continue
        changes = []
        for _ in range(300):
            after = scheduler.step(state)
            norms = [float((after.values[n] - state.values[n]).norm()) for n in state.values]
            changes.append(max(norms))
            state = after
        settles = changes[-1] < 0.1 * changes[0]
        assert settles == (radius < 1), (seed, radius, changes[0], changes[-1])
        seen[settles] += 1
    assert min(seen.values()) >= len(seeds) // 10


def test_what_it_says_is_what_300_steps_do() -> None:
    long_runs(range(32))


@pytest.mark.slow
def test_what_it_says_is_what_300_steps_do_on_many_wirings() -> None:
    long_runs(range(100, 220))


def test_a_saturating_network_at_its_fixed_point() -> None:
    """Where the step is curved, what counts is the state: at rest the changes shrink by the radius a step."""
    spec = wiring(3, "predify", "synchronous", ["Linear", "Tanh"])
    scheduler, state = made(spec | {"dynamics": {"feedforward": 0.3, "feedback": 0.2, "error": 0.05}}, 3)
    for _ in range(2000):
        state = scheduler.step(state)
    after = scheduler.step(state)
    assert all(torch.allclose(after.values[n], value, rtol=1e-12) for n, value in state.values.items())
    value = step_eigenvalue(scheduler, state, tolerance=1e-9)
    assert 0 < abs(value) < 1
    moved = with_parts(state, torch.cat([p.flatten() for p in parts_of(state)]) + 1e-4)
    distances = []
    for _ in range(60):
        moved = scheduler.step(moved)
        distances.append(
            torch.cat([(moved.values[n] - state.values[n]).flatten() for n in state.values]).norm()
        )
    rate = float(distances[-1] / distances[-31]) ** (1 / 30)
    assert rate == pytest.approx(abs(value), rel=0.03)


def test_what_a_mask_holds_does_not_move() -> None:
    spec = {
        "name": "held",
        "nodes": {"a": {"shape": [3]}, "b": {"shape": [2]}},
        "edges": [{"source": "a", "target": "b", "predictor": ["Linear"], "delay": 2}],
        "dynamics": {"rule": "energy", "rate": 0.3},
    }
    scheduler = pcg.Scheduler(pcg.build(pcg.parse_spec(spec)).double())
    held = torch.tensor([True, False, True])
    a = torch.randn(1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    state = scheduler.start(a, mask={"a": held})
    weight = scheduler.network.predictors["a->b"].weight.detach()[:, 1]
    # x = (free entry of a now and a step ago, b): the error b - W a(t - 1) moves both, and a remembers itself
    matrix = torch.zeros(4, 4, dtype=torch.float64)
    matrix[0, 0], matrix[0, 1], matrix[0, 2:] = 1.0, -0.3 * weight @ weight, 0.3 * weight
    matrix[1, 0] = 1.0
    matrix[2:, 1], matrix[2:, 2:] = 0.3 * weight, 0.7 * torch.eye(2)
    exact = float(torch.linalg.eigvals(matrix).abs().max())
    assert spectral_radius(scheduler, state, tolerance=1e-9) == pytest.approx(exact, rel=1e-6)


def test_refusals() -> None:
    spec = wiring(0, "energy", "synchronous", ["Linear"])
    scheduler, state = made(spec | {"dynamics": {"rule": "energy", "optimizer": "adam"}}, 0)
    with pytest.raises(InputError, match="depend on the time"):
        spectral_radius(scheduler, state)
    with pytest.raises(InputError, match="belong to rule 'predify'"):
        edge_limits(scheduler.network)
    given = {
        name: torch.zeros(1, *node.shape).double() for name, node in scheduler.network.graph.nodes.items()
    }
    with pytest.raises(InputError, match="no state moves"):
        spectral_radius(made(spec, 0)[0], made(spec, 0)[0].start(clamp=given))


# ---- the iteration -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_restarts_find_real_and_complex_eigenvalues(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(60, 60, generator=generator, dtype=torch.float64)
    blocks = torch.diag(torch.linspace(-0.8, 0.8, 60, dtype=torch.float64))
    angle = torch.tensor(0.3 + seed)
    turn = 0.95 * torch.stack(
        [torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])]
    )
    blocks[:2, :2] = turn
    if seed == 0:
        blocks[:2, :2] = torch.diag(torch.tensor([-0.95, 0.1]))
    matrix = basis @ blocks @ torch.linalg.inv(basis)
    start = torch.randn(60, generator=generator, dtype=torch.float64)
    found = largest_eigenvalue(lambda v: matrix @ v, start, size=12, restarts=200, tolerance=1e-8)
    assert abs(found) == pytest.approx(0.95, rel=1e-5)


def test_nothing_and_what_is_not_finite() -> None:
    start = torch.ones(3, dtype=torch.float64)
    assert largest_eigenvalue(lambda v: 0 * v, start) == 0
    assert largest_eigenvalue(lambda v: v * 2, start) == pytest.approx(2)
    found = largest_eigenvalue(lambda v: v * float("inf"), start)
    assert found != found


# ---- single edges ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(6, 4),
        nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.ConvTranspose2d(1, 2, 3, stride=2), nn.Flatten()),
        nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5)),
        nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5)),
    ],
)
def test_stretch_and_pull_are_those_of_the_whole_jacobian(module: nn.Module) -> None:
    module = module.double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 6, generator=generator, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: module(x).flatten(), x).flatten(1)
    assert stretch(module, [x]) == pytest.approx(float(torch.linalg.matrix_norm(jacobian, 2) ** 2), rel=0.011)
    target = torch.randn(module(x).shape, generator=generator, dtype=torch.float64)
    expected = (jacobian.T @ (target - module(x)).flatten()).norm() / x.norm()
    assert pull(module, [x], target) == pytest.approx(float(expected))


def test_a_prediction_that_does_not_depend_on_its_source() -> None:
    class Constant(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return 3 * b

    a, b = torch.ones(1, 2), torch.ones(1, 2)
    assert stretch(Constant(), [a, b], 0) == 0
    assert stretch(Constant(), [a, b], 1) == pytest.approx(9)


@pytest.mark.parametrize("gradient", ["sum", "mean", "normalized"])
@pytest.mark.parametrize("share", [0.99, 1.01])
def test_an_edge_runs_away_just_above_its_limit(gradient: str, share: float) -> None:
    """The target is clamped, so that the edge is alone; linear up to its ReLU, of which all units are on."""
    spec = {
        "name": "one",
        "nodes": {"target": {"shape": [8]}, "source": {"shape": [5]}},
        "feedback": [{"source": "source", "target": "target", "predictor": ["Linear", "ReLU"]}],
        "edges": [{"source": "target", "target": "source", "predictor": ["Linear"]}],
        "dynamics": {"feedforward": 0.3, "error": 1.0, "gradient": gradient},
    }
    first = pcg.build(pcg.parse_spec(spec)).double()
    limit = next(one for one in edge_limits(first) if one.gain)
    assert (limit.edge, limit.source, limit.gain) == ("source->target", "source", 1.0)
    spec["dynamics"] = {**spec["dynamics"], "error": share * limit.limit}
    network = pcg.build(pcg.parse_spec(spec)).double()
    with torch.no_grad():
        network.predictors["source->target"][0].bias.fill_(1e9)  # all units are on
    scheduler = pcg.Scheduler(network)
    target = torch.full((1, 8), 1e9, dtype=torch.float64)
    state = scheduler.start(target)
    radius = spectral_radius(scheduler, state, tolerance=1e-6)
    assert (radius < 1) == (share < 1)
    assert radius == pytest.approx(share * 1.7 - 0.7, rel=0.02)
