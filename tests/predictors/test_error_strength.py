"""How strong predictors are: bounds and parts of maps against whole Jacobians; what `check` has to do."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.analysis import cost
from pcgraph.analysis.cost import cost_of_one_step, step_cost
from pcgraph.analysis.stability import edge_limits
from pcgraph.building.network import measured
from pcgraph.dynamics.amplification import stretch
from pcgraph.predictors import error_strength
from pcgraph.predictors.bounds import linear_stretch, stretch_bound
from pcgraph.predictors.error_strength import measure_carried
from pcgraph.report.advice import check_gains


def exact(module: nn.Module, x: Tensor) -> float:
    """The square of the norm of the whole Jacobian."""
    jacobian = torch.autograd.functional.jacobian(lambda x: module(x).flatten(), x).flatten(1)
    return float(torch.linalg.matrix_norm(jacobian, 2)) ** 2


MODULES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(6, 4), (6,)),
    "two linear": (nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 7)), (6,)),
    "convolution": (nn.Conv2d(2, 3, 3, padding=1), (2, 6, 6)),
    "with a stride": (nn.Conv2d(2, 3, 5, stride=2, padding=2), (2, 7, 7)),
    "transposed": (nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1), (3, 5, 5)),
    "transposed, dilated": (nn.ConvTranspose2d(3, 2, 3, stride=(2, 3), dilation=(3, 1)), (3, 4, 4)),
    "groups": (nn.ConvTranspose2d(4, 4, 3, stride=2, groups=2), (4, 4, 4)),
    "one dimension": (nn.ConvTranspose1d(3, 2, 5, stride=3), (3, 6)),
    "three": (nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.Conv3d(2, 1, 2)), (1, 5, 5, 5)),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("smooth", [False, True])
def test_a_bound_is_above_and_not_far_for_smooth_kernels(name: str, smooth: bool) -> None:
    module, shape = MODULES[name]
    module = module.double()
    if smooth:  # all taps add up: the worst there is
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.fill_(0.1)
    x = torch.randn(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).abs()
    whole, bound = exact(module, x), stretch_bound(module)
    assert whole <= bound * (1 + 1e-9)
    assert not smooth or bound < 20 * whole


@pytest.mark.parametrize(
    "module",
    [
        nn.BatchNorm2d(3),
        nn.Upsample(scale_factor=2),
        nn.Sequential(nn.Linear(3, 3), nn.GELU(), nn.Linear(3, 3)),
        nn.Conv2d(3, 3, 3, padding_mode="reflect", padding=1),
    ],
)
def test_of_what_is_not_known_there_is_no_bound(module: nn.Module) -> None:
    assert stretch_bound(module) == float("inf")


def test_a_hook_is_not_gone_around() -> None:
    module = nn.Linear(3, 3)
    module.register_forward_hook(lambda m, given, output: 100 * output)
    assert stretch_bound(module) == float("inf")
    assert linear_stretch(module) is None


def test_a_small_linear_layer_is_exact() -> None:
    module = nn.Sequential(nn.Linear(30, 20).double())
    assert linear_stretch(module) == pytest.approx(exact(module, torch.randn(1, 30).double()))


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("channels", [(3, 4), (8, 2)])
def test_a_part_of_an_upsampled_map_is_about_as_strong(factor: int, channels: tuple[int, int]) -> None:
    side, (source, target) = 20, channels
    upsample = nn.Upsample((factor * side, factor * side), mode="bilinear")
    module = nn.Sequential(upsample, nn.ConvTranspose2d(source, target, 3, padding=1))
    x = torch.randn(1, source, side, side)
    part, given = error_strength._parts(module, [x])
    assert given[0].shape[-1] == error_strength.PART
    assert stretch(part, given) == pytest.approx(stretch(module, [x]), rel=0.1)
    small, given = error_strength._parts(module, [x[..., :7, :7]])  # no whole number: all of it
    assert small is module or factor == 1 or given[0].shape[-1] == 7


LINEAR, UNFLATTEN = {"Linear": {"out_features": 64}}, {"Unflatten": {"dim": 1, "unflattened_size": [4, 4, 4]}}
SPEC: dict[str, Any] = {
    "name": "maps",
    "nodes": {"a": {"shape": [3, 8, 8]}, "b": {"shape": [4, 4, 4]}, "c": {"shape": [5]}},
    "edges": [
        {"source": "a", "target": "b", "predictor": [{"Conv2d": {"kernel_size": 2, "stride": 2}}]},
        {"source": "b", "target": "c", "predictor": ["Flatten", "Linear"]},
    ],
    "feedback": [
        {"source": "b", "target": "a", "predictor": [{"ConvTranspose2d": {"kernel_size": 2, "stride": 2}}]},
        {"source": "c", "target": "b", "predictor": [LINEAR, UNFLATTEN, "ReLU"]},
    ],
}


@pytest.mark.parametrize("error", [0.01, 1.0, 10.0, 300.0])
def test_bounds_hide_no_warning(error: float) -> None:
    """The sources of which it is said that they bear less are those whose measured shares exceed 1."""
    dynamics = {"feedforward": 0.3, "feedback": 0.1, "error": error}
    network = pcg.build(pcg.parse_spec({**SPEC, "dynamics": dynamics}))
    shares: Counter[str] = Counter()
    for one in edge_limits(network):
        shares[one.source] += one.share
    warned = {str(fault.path[2]) for fault in check_gains(network) if "carr" in fault.message}
    assert warned == {source for source, share in shares.items() if share > 1}


def chain(count: int, rule: dict[str, Any]) -> dict[str, Any]:
    edges = [
        {"source": f"n{i}", "target": f"n{i + 1}", "predictor": ["Linear", "Tanh"]} for i in range(count - 1)
    ]
    nodes = {f"n{i}": {"shape": [4]} for i in range(count)}
    feedback = {"feedback": "chain"} if rule["rule"] == "predify" else {}
    return {"name": "chain", "nodes": nodes, "edges": edges, **feedback, "dynamics": rule}


RULES: list[dict[str, Any]] = [
    {"rule": "energy", "rate": 0.1},
    {"rule": "predify", "error": 0.01, "nodes": {"n1": {"error": 50.0}}},
    {"rule": "predify", "error": "auto"},
]


@pytest.mark.parametrize("rule", RULES)
def test_what_a_check_looks_at_grows_with_the_nodes(rule: dict[str, Any], monkeypatch: Any) -> None:
    """Counted in looks at edges and predictors, not timed: ten times the nodes take ten times as many."""
    calls: Counter[str] = Counter()
    for module, name in ((cost, "_cost_of_prediction"), (error_strength, "stretch_bound")):
        original = getattr(module, name)

        def counted(*args: Any, name: str = name, original: Any = original) -> Any:
            calls[name] += 1
            return original(*args)

        monkeypatch.setattr(module, name, counted)
    found = {}
    for count in (60, 600):
        calls.clear()
        network = pcg.build(pcg.parse_spec(chain(count, rule)), weights=False)
        if rule["rule"] == "predify":
            network.dynamics = measured(network)
        check_gains(network)
        step_cost(network)
        found[count] = dict(calls)
    assert found[600].get("stretch_bound", 0) <= 11 * found[60].get("stretch_bound", 0)
    assert found[600]["_cost_of_prediction"] == found[60]["_cost_of_prediction"] <= 4  # those alike: once


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("order", ["synchronous", "sweep"])
def test_the_cost_by_predictors_is_that_of_a_step(rule: dict[str, Any], order: str) -> None:
    for spec in (chain(5, rule), {**SPEC, "dynamics": {**rule, "nodes": {}}}):
        network = pcg.build(pcg.parse_spec({**spec, "schedule": {"order": order}}))
        by_step = cost_of_one_step(pcg.build(network.spec).to("meta"))
        assert step_cost(network) == by_step > 0


def test_only_those_are_measured_that_are_asked_for() -> None:
    network = pcg.build(pcg.parse_spec(SPEC))
    whole = measure_carried(network.graph, network.predictors)
    one = measure_carried(network.graph, network.predictors, only=["b->a"])
    assert one == {("b->a", "b"): whole["b->a", "b"]}


def test_a_volume_is_measured_without_its_upsampled_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """As strong as its layers one after the other, none of which is called."""
    spec = {
        "name": "clip",
        "nodes": {"a": {"shape": [3, 4, 8, 8]}, "b": {"shape": [16, 2, 2, 2]}},
        "edges": [{"source": "a", "target": "b", "predictor": ["Flatten", "Linear", "Unflatten"]}],
        "feedback": [{"source": "b", "target": "a"}],
    }
    network = pcg.build(pcg.parse_spec(spec))
    predictor = network.predictors["b->a"]
    whole = torch.autograd.functional.jacobian(nn.Sequential(*predictor), torch.randn(1, 16, 2, 2, 2))
    expected = float(torch.linalg.matrix_norm(whole.flatten(5).reshape(3 * 4 * 8 * 8, -1), 2)) ** 2
    monkeypatch.setattr(nn.Upsample, "forward", lambda *_: pytest.fail("the upsampled volume is made"))
    found = error_strength.measure_carried(network.graph, network.predictors, only=["b->a"])
    assert found["b->a", "b"].stretch == pytest.approx(expected, rel=0.05)
