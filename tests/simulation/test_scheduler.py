"""How the scheduler behaves: values that never change, early stops, precisions, clear errors."""

from __future__ import annotations

import copy
import gc
import math
import weakref
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pcgraph as pcg
from tests.goldens import nets
from tests.nets import residual

QUANTITIES = ["values", "predictions", "errors", "energy", "gradients"]
EXACT = {"atol": 1e-12, "rtol": 1e-12}


class InPlace(nn.Module):
    """A predictor that writes into what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x += 1
        return self.linear(nn.functional.relu(x, inplace=True))


in_place = InPlace()


def free_network(**schedule: Any) -> pcg.PCNetwork:
    """Three vectors in a ring with a self edge, a slow edge and a bundle; no backbone."""
    return pcg.build(
        pcg.parse_spec(
            {
                "name": "ring",
                "nodes": {"a": {"shape": [3]}, "b": {"shape": [4]}, "c": {"shape": [2]}},
                "edges": [
                    {"source": "a", "target": "b", "predictor": ["Linear", "Tanh"], "bundle": "one"},
                    {"source": "b", "target": "b", "predictor": ["Linear"], "bundle": "one", "delay": 3},
                    {"source": "b", "target": "c", "predictor": ["Linear", "Tanh"], "delay": 2},
                ],
                "feedback": [{"source": "c", "target": "a"}, {"source": "c", "target": "b"}],
                "dynamics": {"gradient": "sum", "error": 0.1},
                "schedule": schedule,
            }
        )
    )


def backbone_network(dtype: torch.dtype = torch.float32, **fields: Any) -> pcg.PCNetwork:
    """The chain of the goldens, whose activations work in place, with states at all three."""
    torch.manual_seed(0)
    spec = {
        "name": "chain",
        "backbone": {"model": "python:tests.goldens.nets:chain", "input": [3, 16, 16]},
        "nodes": {"e1": "1", "e2": "3", "e3": "5"},
        "feedback": "chain",
        **fields,
    }
    return pcg.build(pcg.parse_spec(spec), model=nets.chain()).to(dtype)


def linear_network(rate: float = 0.1) -> pcg.PCNetwork:
    """Linear predictions along and against the chain a -> b -> c -> d, each with its own precision."""
    edge = {"predictor": ["Linear"]}
    spec = {
        "name": "linear",
        "nodes": {name: {"shape": [size]} for name, size in {"a": 3, "b": 4, "c": 5, "d": 2}.items()},
        "edges": [
            {"source": "a", "target": "b", "precision": 2.0, **edge},
            {"source": "b", "target": "c", "precision": 0.5, **edge},
            {"source": "c", "target": "d", **edge},
        ],
        "feedback": [{"source": "c", "target": "b", "precision": 1.5, **edge}],
        "dynamics": {"rule": "energy", "rate": rate},
    }
    return pcg.build(pcg.parse_spec(spec)).double()


NETWORKS = {
    "free": (free_network, (3,)),
    "backbone": (backbone_network, (3, 16, 16)),
    "sweep": (lambda: backbone_network(schedule={"order": "sweep"}), (3, 16, 16)),
}


@pytest.fixture(params=NETWORKS)
def network_and_images(request: pytest.FixtureRequest) -> tuple[pcg.PCNetwork, Tensor]:
    make, shape = NETWORKS[request.param]
    return make(), torch.randn(2, *shape)


def frozen(state: pcg.State) -> dict[str, Any]:
    """A deep copy of everything in a state."""
    return copy.deepcopy(vars(state))


def assert_unchanged(state: pcg.State, before: dict[str, Any]) -> None:
    def same(one: Any, other: Any) -> bool:
        if isinstance(one, Tensor):
            return torch.equal(one, other)
        if isinstance(one, dict):
            return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
        if isinstance(one, tuple):
            return len(one) == len(other) and all(map(same, one, other))
        return bool(one == other)

    for name, value in vars(state).items():
        assert same(value, before[name]), name


# ---- a state is a value ---------------------------------------------------------------------------


@pytest.mark.parametrize("differentiable", [False, True])
def test_a_step_changes_nothing(
    network_and_images: tuple[pcg.PCNetwork, Tensor], differentiable: bool
) -> None:
    network, images = network_and_images
    weights = copy.deepcopy(network.state_dict())
    receiver = network.graph.receiver
    mask = {receiver: torch.rand(images.shape) < 0.5}
    scheduler, original = pcg.Scheduler(network), images.clone()
    first = scheduler.step(scheduler.start(images, mask=mask))
    before = frozen(first)
    second = scheduler.step(first, differentiable=differentiable)
    again = scheduler.step(first, differentiable=differentiable)
    assert_unchanged(first, before)
    assert torch.equal(images, original)
    assert second.step == first.step + 1 == 2
    for name, value in second.values.items():
        assert torch.equal(value, again.values[name]), "a step from the same state gave something else"
        assert not torch.equal(value, first.values[name]), f"{name} did not move"
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())


def test_a_predictor_that_writes_into_its_argument_changes_no_state() -> None:
    node = {"shape": [3]}
    edge = {"source": "b", "target": "a", "predictor": "python:tests.simulation.test_scheduler:in_place"}
    back = {"source": "a", "target": "b"}
    spec = {"name": "rude", "nodes": {"a": node, "b": node}, "edges": [back], "feedback": [edge]}
    for alpha in (0.0, 0.1):  # without and with an error gradient through the predictor
        network = pcg.build(pcg.parse_spec({**spec, "dynamics": {"error": alpha}}), trust=True)
        scheduler = pcg.Scheduler(network)
        state = scheduler.start(torch.randn(2, 3), free=["a"])
        before = frozen(state)
        scheduler.step(state)
        scheduler.run(state.values["a"], 1, record=QUANTITIES)
        assert_unchanged(state, before)


def test_a_run_is_its_steps(network_and_images: tuple[pcg.PCNetwork, Tensor]) -> None:
    network, images = network_and_images
    scheduler = pcg.Scheduler(network)
    run = scheduler.run(images, 4, record=["values"])
    state = scheduler.start(images)
    for step in range(5):
        for name, value in state.values.items():
            assert torch.equal(run.values[name][step], value)
        state = scheduler.step(state)
    further = scheduler.step(run.state)
    assert further.step == 5
    assert all(torch.equal(further.values[name], value) for name, value in state.values.items())


def test_readout_is_the_recorded_output() -> None:
    network, images = backbone_network(), torch.randn(2, 3, 16, 16)
    scheduler = pcg.Scheduler(network)
    run = scheduler.run(images, 3)
    assert torch.equal(scheduler.readout(run.state), run.output[3])
    with torch.no_grad():
        assert torch.equal(run.output[0], network.drive.model(images.clone()))
    free = pcg.Scheduler(free_network())
    state = free.start(torch.randn(2, 3))
    with pytest.raises(pcg.InputError, match="a network without a backbone has no output"):
        free.readout(state)


# ---- recording ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "kept"),
    [
        ([], {}),
        (["values:b"], {"values": {"b"}}),
        (["energy:one", "values:a", "values:c"], {"energy": {"one"}, "values": {"a", "c"}}),
        (["predictions:b->b"], {"predictions": {"b->b"}}),
        (["errors"], {"errors": {"one", "b->c", "c->a", "c->b"}}),
        (["gradients"], {"gradients": {"c"}}),
        (None, {}),
    ],
)
def test_nothing_is_kept_that_was_not_asked_for(record: Any, kept: dict[str, set[str]]) -> None:
    run = pcg.Scheduler(free_network()).run(torch.randn(2, 3), 3, record=record)
    for quantity in QUANTITIES:
        series = getattr(run, quantity)
        assert set(series) == kept.get(quantity, set())
        assert all(len(values) == 4 for values in series.values())
    assert run.output == []


def test_a_backbone_records_its_output_when_nothing_is_said() -> None:
    run = pcg.Scheduler(backbone_network()).run(torch.randn(2, 3, 16, 16), 3)
    assert len(run.output) == 4
    assert not any(getattr(run, quantity) for quantity in QUANTITIES)


def test_predictions_are_made_one_by_one_or_together(
    network_and_images: tuple[pcg.PCNetwork, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, images = network_and_images
    together = pcg.Scheduler(network).run(images, 3, record=["values"])
    monkeypatch.setattr("pcgraph.simulation.plan.SMALL", 0)
    one_by_one = pcg.Scheduler(network).run(images, 3, record=["values"])
    for node, series in together.values.items():
        for one, other in zip(series, one_by_one.values[node], strict=True):
            torch.testing.assert_close(one, other)


def test_recording_changes_no_result(network_and_images: tuple[pcg.PCNetwork, Tensor]) -> None:
    network, images = network_and_images
    scheduler = pcg.Scheduler(network)
    plain = scheduler.run(images, 4, record=[])
    full = scheduler.run(images, 4, record=QUANTITIES)
    for name, value in plain.state.values.items():
        assert torch.equal(full.state.values[name], value)


def test_steps_come_from_the_spec_and_step_0_is_the_start() -> None:
    scheduler = pcg.Scheduler(free_network(steps=7))
    images = torch.randn(2, 3)
    assert scheduler.run(images, record=["values"]).steps == 7
    run = scheduler.run(images, 0, record=["values", "errors"])
    assert (run.steps, len(run.values["a"]), len(run.errors["one"])) == (0, 1, 1)
    assert all(torch.equal(run.values[n][0], v) for n, v in scheduler.start(images).values.items())


# ---- early stop and divergence --------------------------------------------------------------------


def largest_change(run: pcg.Run, step: int) -> float:
    """The largest change of a state in the step to `step`, as a share of its norm before."""
    return max(
        (series[step] - series[step - 1]).norm().item() / series[step - 1].norm().item()
        for name, series in run.values.items()
        if name != "a"
    )


@pytest.mark.parametrize("by", ["argument", "spec"])
def test_a_tolerance_stops_the_run_at_the_first_small_step(by: str) -> None:
    images, tolerance = torch.randn(2, 3), 1e-3
    if by == "argument":
        scheduler = pcg.Scheduler(free_network())
        run = scheduler.run(images, 500, record=["values"], tolerance=tolerance)
    else:
        scheduler = pcg.Scheduler(free_network(tolerance=tolerance))
        run = scheduler.run(images, 500, record=["values"])
    assert run.converged
    assert 3 < run.steps < 500
    assert run.state.step == run.steps
    assert all(len(series) == run.steps + 1 for series in run.values.values())
    assert largest_change(run, run.steps) <= tolerance
    assert all(largest_change(run, step) > tolerance for step in range(1, run.steps))


def test_a_run_that_moves_on_has_not_converged() -> None:
    run = pcg.Scheduler(free_network()).run(torch.randn(2, 3), 4, record=[], tolerance=1e-9)
    assert (run.converged, run.steps) == (False, 4)
    assert not pcg.Scheduler(free_network()).run(torch.randn(2, 3), 4, record=[]).converged


@pytest.mark.parametrize("bad", ["b", "c"])
def test_divergence_names_the_node_and_the_step(bad: str) -> None:
    gain = 1e9
    edges = [
        {"source": "a", "target": name, "predictor": ["Linear"], **({"gain": gain} if name == bad else {})}
        for name in ("b", "c")
    ]
    spec = {
        "name": "wild",
        "nodes": {name: {"shape": [1]} for name in "abc"},
        "edges": edges,
        "dynamics": {"allow_negative_memory": True},
        "schedule": {"initial": "zeros"},
    }
    network = pcg.build(pcg.parse_spec(spec))
    with torch.no_grad():
        for predictor in network.predictors.values():
            predictor.weight.fill_(0.0)
            predictor.bias.fill_(1.0)
    value, step = torch.zeros(()), 0  # the same recursion by hand, in float32
    while value.isfinite():
        value, step = value - gain * (value - 1), step + 1
    assert step > 2
    images = torch.zeros(2, 1)
    pcg.Scheduler(network).run(images, step - 1)
    with pytest.raises(pcg.DivergenceError) as caught:
        pcg.Scheduler(network).run(images, 100)
    assert (caught.value.node, caught.value.step) == (bad, step)
    assert f"the state of node '{bad}' is not finite after step {step}" in str(caught.value)


def test_large_finite_states_are_no_divergence() -> None:
    network = free_network().double()
    images = torch.full((2, 3), 1e200, dtype=torch.float64)
    run = pcg.Scheduler(network).run(images, 2, free=["a"], record=["values"])
    assert all(value.isfinite().all() for series in run.values.values() for value in series)
    assert run.values["a"][2].abs().max() > 1e100


# ---- precision, batch size, modes -----------------------------------------------------------------


@pytest.mark.parametrize("order", ["synchronous", "sweep"])
@pytest.mark.parametrize("rule", ["predify", "energy"])
def test_bfloat16_autocast_is_close(rule: str, order: str) -> None:
    network = backbone_network(dynamics={"rule": rule}, schedule={"order": order})
    images = torch.randn(2, 3, 16, 16)
    record = ["values", "output", "energy"]
    plain = pcg.Scheduler(network).run(images, 8, record=record)
    with torch.autocast("cpu", torch.bfloat16):
        run = pcg.Scheduler(network).run(images, 8, record=record)
    different = False
    for name, series in run.values.items():
        for value, expected in zip(series, plain.values[name], strict=True):
            assert value.dtype == torch.float32, "states keep their own precision"
            assert value.isfinite().all()
            # One rounding to bfloat16's 8 bits is up to 0.2 % of each value; measured: 0.5 %.
            assert (value - expected).norm() <= 0.01 * expected.norm()
            different |= not torch.equal(value, expected)
    assert different, "autocast had no effect"
    for energies in run.energy.values():
        assert all(energy.dtype == torch.float32 for energy in energies)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_dtype_of_the_network_is_that_of_the_states(dtype: torch.dtype) -> None:
    images = torch.randn(2, 3, 16, 16)
    plain = pcg.Scheduler(backbone_network()).run(images, 4, record=["values", "energy"])
    run = pcg.Scheduler(backbone_network(dtype)).run(images, 4, record=["values", "energy"])
    share = {torch.bfloat16: 0.015, torch.float64: 1e-6}[dtype]  # measured: 0.7 % and 2e-7
    for name, series in run.values.items():
        for value, expected in zip(series, plain.values[name], strict=True):
            assert value.dtype == dtype
            assert (value - expected).norm() <= share * expected.norm()


@pytest.mark.parametrize("gradient", ["sum", "normalized"])
def test_an_image_does_not_depend_on_the_others_of_its_batch(gradient: str) -> None:
    network = backbone_network(torch.float64, dynamics={"gradient": gradient, "error": 0.1})
    images = torch.randn(5, 3, 16, 16)
    scheduler = pcg.Scheduler(network)
    whole = scheduler.run(images, 4, record=["output", "values", "energy"])
    for index in range(5):
        alone = scheduler.run(images[index : index + 1], 4, record=["output", "values", "energy"])
        torch.testing.assert_close(alone.output[4][0], whole.output[4][index], **EXACT)
        for quantity in ("values", "energy"):
            for name, series in getattr(alone, quantity).items():
                torch.testing.assert_close(series[4][0], getattr(whole, quantity)[name][4][index], **EXACT)


def test_the_mean_gradient_is_divided_by_the_batch() -> None:
    network = backbone_network(torch.float64, dynamics={"gradient": "mean"})
    image = torch.randn(1, 3, 16, 16)
    one = pcg.Scheduler(network).run(image, 0, record=["gradients"])
    four = pcg.Scheduler(network).run(image.expand(4, -1, -1, -1), 0, record=["gradients"])
    for name, series in one.gradients.items():
        torch.testing.assert_close(four.gradients[name][0][:1] * 4, series[0], **EXACT)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_caller_may_be_in_any_gradient_mode(
    network_and_images: tuple[pcg.PCNetwork, Tensor], mode: Callable[[], Any]
) -> None:
    network, images = network_and_images
    record = [*QUANTITIES, "output"] if network.drive else QUANTITIES
    mask = torch.rand(images.shape) < 0.5
    receiver = network.graph.receiver
    plain = pcg.Scheduler(network).run(images, 3, record=record, mask={receiver: mask})
    with mode():
        run = pcg.Scheduler(network).run(images * 1, 3, record=record, mask={receiver: mask & True})
    for quantity in QUANTITIES:
        for name, series in getattr(run, quantity).items():
            for value, expected in zip(series, getattr(plain, quantity)[name], strict=True):
                assert torch.equal(value, expected)
                assert not value.requires_grad
                assert value.grad_fn is None
    last = run.state.values[receiver]
    weight = torch.ones(last.shape, requires_grad=True)
    (last * weight).sum().backward()  # what comes out of a run can be trained on
    assert torch.equal(weight.grad, last)


def test_noise_comes_from_the_generator() -> None:
    network, images = free_network(initial="normal"), torch.randn(50, 3)

    def values(seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return dict(pcg.Scheduler(network).start(images, generator=generator).values)

    first, same, other = values(1), values(1), values(2)
    assert all(torch.equal(first[name], same[name]) for name in "abc")
    assert all(not torch.equal(first[name], other[name]) for name in "bc")
    assert torch.equal(first["a"], images), "what is given is no noise"
    assert abs(first["b"].mean()) < 0.3
    assert abs(first["b"].std() - 1) < 0.3
    torch.manual_seed(5)
    before = pcg.Scheduler(network).start(images).values["b"]
    torch.manual_seed(5)
    assert torch.equal(pcg.Scheduler(network).start(images).values["b"], before)


class Saved:
    """A tensor that autograd keeps for the backward pass."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@pytest.mark.heavy
def test_checkpointing_keeps_less_for_the_backward_pass() -> None:
    network, images = backbone_network(dynamics={"error": 0.1}), torch.randn(2, 3, 16, 16)

    def kept(checkpoint: bool) -> int:
        """Bytes that wait for the backward pass once the run is over."""
        alive: weakref.WeakSet[Saved] = weakref.WeakSet()

        def pack(tensor: Tensor) -> Saved:
            saved = Saved(tensor)
            alive.add(saved)
            return saved

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
            leaf = images.clone().requires_grad_()
            run = pcg.Scheduler(network).run(leaf, 6, record=[], differentiable=True, checkpoint=checkpoint)
            assert run.state.values["e3"].requires_grad
            gc.collect()
            storages = [saved.tensor.untyped_storage() for saved in alive]
            return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    assert 0 < kept(checkpoint=True) < 0.5 * kept(checkpoint=False)


def test_checkpoint_without_differentiable_is_a_plain_run() -> None:
    network, images = free_network(), torch.randn(2, 3)
    plain = pcg.Scheduler(network).run(images, 3, record=["values"])
    run = pcg.Scheduler(network).run(images, 3, record=["values"], checkpoint=True)
    assert all(torch.equal(run.values[name][3], plain.values[name][3]) for name in "abc")


# ---- clear errors ---------------------------------------------------------------------------------

IMAGES = torch.zeros(2, 3)
BAD_INPUTS: list[tuple[dict[str, Any], str]] = [
    ({"inputs": torch.zeros(2, 4)}, "node 'a' is given shape (2, 4); expected a tensor of shape (batch, 3)"),
    ({"inputs": torch.zeros(3)}, "node 'a' is given shape (3,); expected a tensor of shape (batch, 3)"),
    ({"inputs": torch.zeros(0, 3)}, "node 'a' is given shape (0, 3); expected a tensor of shape (batch, 3)"),
    ({"inputs": torch.tensor(1.0)}, "node 'a' is given shape (); expected a tensor of shape (batch, 3)"),
    ({"inputs": [[0.0, 0.0, 0.0]]}, "node 'a' is given list; expected a tensor of shape (batch, 3)"),
    ({"inputs": None}, "nothing is given; give inputs or clamp={node: value}"),
    ({"clamp": {"d": IMAGES}}, "clamp: there is no node 'd'\n  Choose from 'a', 'b', 'c'."),
    ({"clamp": {"a": IMAGES}}, "node 'a' is given twice: as inputs and in clamp"),
    (
        {"clamp": {"c": torch.zeros(2, 3)}},
        "node 'c' is given shape (2, 3); expected a tensor of shape (batch, 2)",
    ),
    ({"clamp": {"c": torch.zeros(1, 2)}}, "the given nodes differ in batch size: {'c': 1, 'a': 2}"),
    ({"mask": {"b": torch.ones(2, 4) > 0}}, "mask: node 'b' is given no value\n  Choose from 'a'."),
    (
        {"mask": {"a": torch.ones(2, 3)}},
        "mask: 'a' is torch.float32; expected a tensor of torch.bool (True is held)",
    ),
    (
        {"mask": {"a": torch.ones(2, 2) > 0}},
        "mask: 'a' has shape (2, 2), which does not broadcast to (2, 3)",
    ),
    (
        {"mask": {"a": [True, False, True]}},
        "mask: 'a' is list; expected a tensor of torch.bool (True is held)",
    ),
    ({"free": ["b"]}, "free: node 'b' is given no value\n  Choose from 'a'."),
    ({"record": "values"}, "record='values' is one string; give a list such as ['values']"),
    ({"record": ["value"]}, "nothing called 'value' can be recorded\n  Did you mean 'values'?"),
    (
        {"record": ["energy:b->e"]},
        "'energy:b->e': there is no 'b->e'\n  Did you mean 'b->c'?",
    ),
    ({"record": ["output"]}, "a network without a backbone has no output to record; record 'values'"),
    ({"steps": -1}, "steps=-1; expected 0 or more"),
    ({"differentiable": "second"}, "differentiable='second'; expected True, False or 'first_order'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUTS, ids=lambda value: str(value)[:40])
def test_bad_input_is_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(pcg.InputError) as caught:
        pcg.Scheduler(free_network()).run(**{"inputs": IMAGES, "steps": 1, **arguments})
    assert str(caught.value) == message


def test_a_backbone_needs_images() -> None:
    with pytest.raises(pcg.InputError, match="a network with a backbone needs inputs: the images"):
        pcg.Scheduler(backbone_network()).run(steps=1)


def test_reading_what_was_not_recorded_is_told() -> None:
    run = pcg.Scheduler(free_network()).run(IMAGES, 1, record=["values:a", "energy"])
    with pytest.raises(pcg.InputError) as caught:
        run.values["b"]
    assert str(caught.value) == "'b' was not recorded\n  Choose from 'a'."
    with pytest.raises(pcg.InputError) as caught:
        run.energy["b->d"]
    assert str(caught.value) == "'b->d' was not recorded\n  Did you mean 'b->c'?"


# ---- closed forms ---------------------------------------------------------------------------------


def affine(network: pcg.PCNetwork, edge: str) -> tuple[Tensor, Tensor]:
    predictor = network.predictors[edge]
    return predictor.weight.detach(), predictor.bias.detach()


def test_a_linear_network_settles_at_the_least_squares_solution() -> None:
    network = linear_network()
    a, d = torch.randn(3, 3, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    run = pcg.Scheduler(network).run(a, 20000, clamp={"d": d}, record=["energy"], tolerance=1e-14)
    assert run.converged
    # All errors are R (b, c) - y, weighted by the roots of their precisions.
    (ab, ab0), (bc, bc0), (cd, cd0), (cb, cb0) = (
        affine(network, edge) for edge in ("a->b", "b->c", "c->d", "c->b")
    )
    one_b, one_c = torch.eye(4, dtype=torch.float64), torch.eye(5, dtype=torch.float64)
    zeros = torch.zeros
    for image in range(3):
        rows = [
            math.sqrt(2.0) * torch.cat([one_b, zeros(4, 5)], dim=1),
            math.sqrt(0.5) * torch.cat([-bc, one_c], dim=1),
            torch.cat([zeros(2, 4), -cd], dim=1),
            math.sqrt(1.5) * torch.cat([one_b, -cb], dim=1),
        ]
        wanted = [
            math.sqrt(2.0) * (ab @ a[image] + ab0),
            math.sqrt(0.5) * bc0,
            cd0 - d[image],
            math.sqrt(1.5) * cb0,
        ]
        rows_all, wanted_all = torch.cat(rows), torch.cat(wanted)
        solution = torch.linalg.lstsq(rows_all, wanted_all[:, None]).solution[:, 0]
        torch.testing.assert_close(run.state.values["b"][image], solution[:4], atol=1e-8, rtol=0)
        torch.testing.assert_close(run.state.values["c"][image], solution[4:], atol=1e-8, rtol=0)
        least = (rows_all @ solution - wanted_all).square().sum() / 2
        total = sum(series[-1][image] for series in run.energy.values())
        torch.testing.assert_close(total, least, atol=1e-10, rtol=0)


def test_the_rule_energy_descends_the_energy() -> None:
    """One step is ``-rate`` times autograd's gradient of the total energy; a small rate goes down only."""
    spec = {
        "name": "mlp",
        "nodes": {"a": {"shape": [4]}, "b": {"shape": [6]}, "c": {"shape": [3]}},
        "edges": [
            {"source": "a", "target": "b", "predictor": ["Linear", "Tanh"], "precision": 2.0},
            {"source": "b", "target": "c", "predictor": ["Linear", "Tanh"], "bundle": "both"},
            {"source": "a", "target": "c", "predictor": ["Linear"], "bundle": "both"},
        ],
        "feedback": [{"source": "b", "target": "b", "predictor": ["Linear", "Tanh"], "precision": 0.5}],
        "dynamics": {"rule": "energy", "rate": 0.05},
        "schedule": {"initial": "normal"},
    }
    network = pcg.build(pcg.parse_spec(spec)).double()
    a, c = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    run = pcg.Scheduler(network).run(a, 40, clamp={"c": c}, record=["values", "energy"])
    f = network.predictors
    b = run.values["b"][0].clone().requires_grad_()
    energy = (
        2.0 * (b - f["a->b"](a)).square().sum()
        + (c - f["b->c"](b) - f["a->c"](a)).square().sum()
        + 0.5 * (b - f["b->b"](b)).square().sum()
    ) / 2
    (slope,) = torch.autograd.grad(energy, b)
    torch.testing.assert_close(run.values["b"][1], b.detach() - 0.05 * slope, **EXACT)
    totals = [sum(series[step].sum() for series in run.energy.values()) for step in range(41)]
    torch.testing.assert_close(totals[0], energy.detach(), **EXACT)
    assert all(after < before for before, after in pairwise(totals))


def test_predify_replaces_its_shares_of_the_state() -> None:
    """With constant predictions p and q: ``x(t) = m + (1 - beta - lambda)^t (x(0) - m)``."""
    beta, lam, p, q, steps = 0.2, 0.3, 1.5, -2.0, 6
    line = {"predictor": ["Linear"]}
    spec = {
        "name": "leak",
        "nodes": {"a": {"shape": [1]}, "b": {"shape": [1]}, "c": {"shape": [1]}},
        "edges": [{"source": "a", "target": "b", **line}, {"source": "b", "target": "c", **line}],
        "feedback": [{"source": "c", "target": "b", **line}],
        "dynamics": {"feedforward": beta, "feedback": lam, "error": 0.0},
    }
    network = pcg.build(pcg.parse_spec(spec)).double()
    with torch.no_grad():
        for name, value in {"a->b": p, "b->c": 0.0, "c->b": q}.items():
            network.predictors[name].weight.fill_(0.0)
            network.predictors[name].bias.fill_(value)
    run = pcg.Scheduler(network).run(torch.zeros(1, 1), steps, record=["values"])
    middle = (beta * p + lam * q) / (beta + lam)
    for step in range(steps + 1):
        expected = middle + (1 - beta - lam) ** step * (p - middle)
        assert run.values["b"][step].item() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("clamp", [(), ("e3",)])
def test_a_run_that_records_energies_makes_no_prediction_twice(clamp: tuple[str, ...]) -> None:
    """What a sweep predicts on its way belongs to the state that it ends in."""
    network = backbone_network(torch.float64)
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    held = {name: torch.ones(2, *network.graph.nodes[name].shape, dtype=torch.float64) for name in clamp}
    calls: list[str] = []
    assert network.drive is not None
    for name, module in network.drive.model.named_children():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    run = pcg.Scheduler(network).run(images, 3, clamp=held, record=["values", "errors", "energy"])
    asked = {name: calls.count(name) for name in ("0", "2", "4")}  # the convolutions
    # e1 once a run; the others to start, where they are free, and for each of four states
    assert asked == {"0": 1, "2": 1 + 4, "4": 4 if clamp else 1 + 4}
    model = network.drive.model
    for t in range(4):
        before, node = run.values["e2"][t], run.values["e3"][t]
        expected = node - model[5](model[4](before.clone()))
        torch.testing.assert_close(run.errors["e2->e3"][t], expected, **EXACT)


def test_states_are_looked_at_while_other_threads_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "_is_compiling_flag", True)  # as torch does, for all threads
    network, images = residual("predify", "sweep"), torch.full((2, 3, 16, 16), torch.nan)
    with pytest.raises(pcg.DivergenceError):
        pcg.Scheduler(network).run(images, steps=1)
