"""What would never end, or never fit: refused before it is opened or made, in one clear sentence."""

from __future__ import annotations

import cProfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import pcgraph as pcg
from pcgraph.building.network import seed_of
from pcgraph.errors import SpecError, closest, suggestions
from pcgraph.predictors import size_limits
from pcgraph.spec import parse_spec
from tests.cli.conftest import Cli, cli, small  # noqa: F401

PAIR: dict[str, Any] = {
    "name": "pair",
    "nodes": {"a": {"shape": [4]}, "b": {"shape": [4]}},
    "edges": [{"source": "a", "target": "b", "predictor": ["Linear"]}],
    "dynamics": {"rule": "energy"},
}


def with_edge(**fields: Any) -> dict[str, Any]:
    return {**PAIR, "edges": [{**PAIR["edges"][0], **fields}]}


def with_layers(*layers: Any) -> dict[str, Any]:
    return with_edge(predictor=[*layers])


TOO_LARGE = {
    "delay": with_edge(delay=1_000_000_000),
    "rate": {**PAIR, "dynamics": {"rule": "energy", "rate": 1e39}},
    "temperature": {**PAIR, "dynamics": {"rule": "energy", "temperature": 1e300}},
    "error": {**PAIR, "dynamics": {"rule": "predify", "error": 1e300}},
    "precision": with_edge(precision=1e-300),
    "gain": {**with_edge(gain=1e200), "dynamics": {"rule": "predify"}},
    "reach": {**with_edge(reach=1e-320), "dynamics": {"rule": "predify"}},
    "resize": {**PAIR, "backbone": {"preprocess": {"resize": 1_000_000_000_000}}},
    "std": {**PAIR, "backbone": {"preprocess": {"std": [1e-300]}}},
    "input": {**PAIR, "backbone": {"input": [3, 10**9, 10**9]}},
    "shape": {**PAIR, "nodes": {"a": {"shape": [10**6, 10**6]}, "b": {"shape": [4]}}},
    "steps": {**PAIR, "schedule": {"steps": 10**30}},
    "seed": with_edge(mask={"density": 0.5, "seed": 2**64}),
    "cosine": {**PAIR, "dynamics": {"rule": "energy", "decay": {"cosine": 10**400}}},
    "epochs": {**PAIR, "train": {"epochs": 10**20}},
    "shift": {**PAIR, "train": {"augment": {"shift": 10**9}}},
    "lr": {**PAIR, "train": {"optimizer": {"lr": 1e300}}},
    "eps": with_layers("Linear", {"LayerNorm": {"eps": -1}}),
    "beta": with_layers("Linear", {"Softplus": {"beta": 0}}),
    "negative_slope": with_layers("Linear", {"LeakyReLU": {"negative_slope": 1e200}}),
}
"""By the field that is at fault."""


@pytest.mark.parametrize("field", TOO_LARGE)
def test_ranges(field: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(TOO_LARGE[field])
    assert any(field in fault.path for fault in caught.value.faults), caught.value


@pytest.mark.parametrize(
    "layers",
    [
        [{"Linear": {"out_features": 1_000_000_000_000}}, "Linear"],
        [{"Unflatten": {"unflattened_size": [1, 4]}}, {"Conv1d": {"kernel_size": 10**12, "padding": 10**12}}],
        [{"Unflatten": {"unflattened_size": [4, 1]}}, {"Upsample": {"size": 10**13}}, "Flatten", "Linear"],
        [{"Linear": {"out_features": 10**30}}, "Linear"],
    ],
)
def test_layers_are_measured_before_they_are_made(layers: list[Any]) -> None:
    with pytest.raises(SpecError) as caught:
        pcg.build(with_layers(*layers), weights=False)
    assert caught.value.faults[0].path[:3] == ("edges", 0, "predictor")


def test_the_room_that_there_is_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    pcg.build(PAIR)
    monkeypatch.setattr(size_limits, "memory", lambda: 4.0 * 4 * 4 + 3 * 4)  # one bias too little
    with pytest.raises(SpecError, match="the weights of Linear would need"):
        pcg.build(PAIR)


def test_the_room_for_the_whole_network_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layer fits, and all of them together do not; nothing has been made by then."""
    nodes = {f"n{place}": {"shape": [100]} for place in range(20)}
    edges = [
        {"source": f"n{place}", "target": f"n{place + 1}", "predictor": ["Linear"]} for place in range(19)
    ]
    edges[7]["predictor"] = [{"Linear": {"out_features": 200}}, "Linear"]
    spec = {"name": "s", "nodes": nodes, "edges": edges, "dynamics": {"rule": "energy"}}
    linear = 4 * (100 * 100 + 100)
    wide = 4 * (100 * 200 + 200 + 200 * 100 + 100)
    needed = 18 * linear + wide + 20 * 400
    monkeypatch.setattr(size_limits, "memory", lambda: float(needed))
    pcg.build(spec)
    made: list[object] = []
    monkeypatch.setattr("pcgraph.building.network.build_predictor", lambda *_: made.append(0))
    for short, weights in ((1, True), (linear, False)):
        monkeypatch.setattr(
            size_limits, "memory", lambda short=short: float(18 * linear + wide + 20 * 400 - short)
        )
        with pytest.raises(SpecError, match="the weights of this network") as caught:
            pcg.build(spec, weights=weights)
        assert caught.value.faults[0].path == ("edges", 7, "predictor")
        assert "out_features: 64" in caught.value.faults[0].hint
    assert not made
    monkeypatch.setattr(size_limits, "memory", lambda: 7999.0)
    with pytest.raises(SpecError, match="the states of one input"):
        pcg.build(spec)


def test_a_layer_that_fits_before_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are looked at before the first is made."""
    made: list[object] = []
    monkeypatch.setattr("pcgraph.building.network.build_predictor", lambda *_: made.append(0))
    layers = [{"Linear": {"out_features": 1_000_000_000}}, "Linear"]
    with pytest.raises(SpecError, match=r"1000000000 x 4 weights would need 14\.9 GiB"):
        pcg.build(with_layers(*layers), weights=False)
    assert not made


def test_a_masked_layer_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = with_edge(mask={"density": 0.5})
    weights, states = 4 * (4 * 4 + 4), 2 * 4 * 4
    monkeypatch.setattr(size_limits, "memory", lambda: 2.0 * weights + states)
    pcg.build(spec)
    monkeypatch.setattr(size_limits, "memory", lambda: 2.0 * weights + states - 1)
    with pytest.raises(SpecError, match="the weights of this network"):
        pcg.build(spec)


@pytest.mark.parametrize(
    "graph",
    [
        {"grid_2d": {"m": 20_000, "n": 20_000}},
        {"erdos_renyi": {"n": 1_000_000, "p": 0.5}},
        {"barabasi_albert": {"n": 10_000_000, "m": 3}},
        {"stochastic_block_model": {"sizes": [10**6, 10**6], "p": [[0.5, 0.5], [0.5, 0.5]]}},
    ],
)
def test_a_mask_of_a_graph_that_is_too_large(graph: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="nodes for 4 units"):
        pcg.build(with_edge(mask={"graph": graph}), weights=False)


def test_a_mask_of_a_graph_with_too_many_edges() -> None:
    spec = with_edge(mask={"graph": {"erdos_renyi": {"p": 1.0}}})
    spec["nodes"] = {"a": {"shape": [6000]}, "b": {"shape": [6000]}}
    with pytest.raises(SpecError, match=r"a graph of about 1\.8e\+07 edges"):
        pcg.build(spec, weights=False)


# ---- torch's own words ---------------------------------------------------------------------------


@pytest.mark.parametrize("count", [5, 3, 1_000])
def test_a_layer_that_does_not_fit_says_so_alone(count: int, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SpecError, match="Linear does not fit states of shape"):
        pcg.build(with_layers({"Linear": {"in_features": count}}))
    assert capfd.readouterr().err == ""


def test_shapes_are_worked_out_without_random_numbers() -> None:
    """The weights are those that the layers themselves draw from the edge's seed, one after the other."""
    layers = [{"Linear": {"out_features": 7}}, "Tanh", "Linear"]
    network = pcg.build({**with_layers(*layers)}, seed=3)
    torch.manual_seed(seed_of(3, "a->b"))
    expected = [torch.nn.Linear(4, 7), torch.nn.Linear(7, 4)]
    weights = list(network.predictors["a->b"].parameters())
    for layer, weight, bias in zip(expected, weights[::2], weights[1::2], strict=True):
        assert torch.equal(layer.weight, weight)
        assert torch.equal(layer.bias, bias)


# ---- time ----------------------------------------------------------------------------------------


def chain(count: int, target: str = "node_{}_of_the_chain") -> dict[str, Any]:
    name = "node_{}_of_the_chain"
    return {
        "name": "chain",
        "nodes": {name.format(i): {"shape": [4]} for i in range(count)},
        "edges": [
            {"source": name.format(i), "target": target.format(i + 1), "predictor": ["Linear"]}
            for i in range(count - 1)
        ],
        "dynamics": {"rule": "energy"},
    }


def calls(function: Callable[[], object]) -> int:
    """How many functions are called on the way."""
    profile = cProfile.Profile()
    profile.runcall(function)
    return sum(entry.callcount for entry in profile.getstats())


def test_building_takes_time_in_proportion() -> None:
    pcg.build(chain(20), weights=False)
    few = calls(lambda: pcg.build(chain(200), weights=False))
    assert calls(lambda: pcg.build(chain(800), weights=False)) < 5 * few  # 16 if it were quadratic


@pytest.mark.heavy
def test_thousands_of_misspelt_names() -> None:
    """Comparing each with all others took a second for each."""

    def fail() -> None:
        with pytest.raises(SpecError) as caught:
            parse_spec(chain(1500, target="nod_{}_of_the_chain"))
        faults = caught.value.faults
        assert len(faults) == 1499
        assert faults[0].hint.startswith("Did you mean 'node_1_of_the_chain'")
        assert faults[-1].message == "unknown node 'nod_1499_of_the_chain'"

    assert calls(fail) < 10e6  # 50 million when each was compared with all others


def test_few_suggestions_are_those_of_each_alone() -> None:
    choices = ["alpha", "beta", "gamma"]
    suggest = suggestions(choices)
    for name in ("alpah", "betta", "omega", "alpah"):
        assert suggest(name) == closest(name, choices)


@pytest.mark.parametrize(
    "more", [("--seed", 2**63), ("--seed", 2**64), ("--steps", 10**12), ("--seed", -1)], ids=str
)
@pytest.mark.parametrize("command", ["run", "query"])
def test_numbers_of_the_command_line(
    cli: Cli,  # noqa: F811
    small: Path,  # noqa: F811
    command: str,
    more: tuple[str, int],
) -> None:
    given = ("--clamp", "input=random") if command == "query" else ()
    outcome = cli(command, "small.yaml", "--trust", *given, *more)
    assert outcome.status == 2
    assert f"'{more[0]}'" in outcome.err


def test_the_largest_seed(cli: Cli, small: Path) -> None:  # noqa: F811
    assert cli("run", "small.yaml", "random", "--trust", "-q", "--seed", 2**63 - 1).status == 0
