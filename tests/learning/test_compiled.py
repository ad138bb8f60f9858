"""A compiled batch gives the states, energies and gradients of the same rule that is not compiled."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import pcgraph as pcg
from pcgraph.errors import DivergenceError, InputError, PCGraphWarning
from pcgraph.files.cache import Cache
from pcgraph.learning import compiled as module
from pcgraph.learning import learn, make_task
from pcgraph.learning.local import Local
from pcgraph.learning.rules import RULES
from pcgraph.simulation import packages
from pcgraph.simulation.shortening import shortened
from pcgraph.spec import Train
from pcgraph.training.gradients import Differentiated, differentiate
from tests.nets import residual

ENERGY = {"rule": "energy", "rate": 0.1}


def dense(*pairs: str, **more: Any) -> dict[str, Any]:
    """A graph of nodes a, b, c, d with an edge for each pair of letters."""
    sizes = {"a": 5, "b": 4, "c": 3, "d": 2}
    edges = [{"source": p[0], "target": p[1], "predictor": ["Linear", "Tanh"]} for p in pairs]
    nodes = {name: {"shape": [size]} for name, size in sizes.items()}
    return {"name": "dense", "nodes": nodes, "edges": edges, "dynamics": ENERGY, **more}


def convolutional() -> dict[str, Any]:
    conv = {"Conv2d": {"kernel_size": 3, "padding": 1, "out_channels": 4}}
    nodes = {"a": {"shape": [2, 6, 6]}, "b": {"shape": [4, 3, 3]}, "d": {"shape": [2]}}
    edges = [
        {"source": "a", "target": "b", "predictor": [conv, "ReLU", {"MaxPool2d": {"kernel_size": 2}}]},
        {"source": "b", "target": "d", "predictor": ["Flatten", "Linear"], "energy": "categorical"},
    ]
    return {"name": "conv", "nodes": nodes, "edges": edges, "dynamics": ENERGY}


def learned_precision() -> dict[str, Any]:
    spec = dense("ab", "bc", "cd", "db", "ac")
    spec["edges"][1]["precision"] = "learned"
    spec["edges"][0]["precision"] = [1.0, 2.0, 0.5, 1.5]
    return spec


def guessed() -> dict[str, Any]:
    start = [{"source": p[0], "target": p[1], "predictor": ["Linear"]} for p in ("ab", "bc")]
    return dense("ba", "cb", "dc", start=start, schedule={"initial": "amortised"})


GRAPHS: dict[str, Callable[[], dict[str, Any]]] = {
    "layered": lambda: dense("ab", "bc", "cd"),
    "skip": lambda: dense("ab", "bc", "cd", "bd"),
    "every edge": lambda: dense(*[a + b for a in "abcd" for b in "abcd"]),
    "a slow edge and momentum": lambda: dense(
        "ab", "bc", "cd", "ca", dynamics={**ENERGY, "optimizer": "momentum"}
    ),
    "convolutions": convolutional,
    "precisions": learned_precision,
    "first guesses": guessed,
}


def built(spec: dict[str, Any]) -> pcg.PCNetwork:
    return pcg.build(pcg.parse_spec(spec), trust=True, seed=3).double()


def clamped(network: pcg.PCNetwork, batch: int = 3, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(batch, *network.graph.nodes[name].shape, generator=generator, dtype=torch.float64)
        for name in ("a", "d")
    }


def traced(
    rule: str, network: pcg.PCNetwork, clamp: dict[str, Tensor], steps: int
) -> dict[str, dict[str, Tensor]]:
    """What the function that would be compiled computes, operation by operation, with other weights."""
    weights = dict(network.named_parameters()) | dict(network.named_buffers())
    function = module.batch_function(RULES[rule], Local(network), tuple(weights), tuple(clamp), steps)
    stand_ins = [torch.zeros_like(one).requires_grad_(one.requires_grad) for one in weights.values()]
    others = [torch.rand_like(value) for value in clamp.values()]
    flat = packages._Flat(function, (*stand_ins, *others))
    with torch.no_grad(), packages._as_if_compiled():
        program = shortened(packages._trace(flat), flat.tensors)
        results = program(*weights.values(), *clamp.values())
    return {part: {name: results[at] for name, at in where.items()} for part, where in flat.form.items()}


def expected(rule: str, network: pcg.PCNetwork, clamp: dict[str, Tensor], steps: int) -> Any:
    """The rule as it is, and the gradient of its losses by autograd."""
    *_, moment = RULES[rule](Local(network), clamp, steps)
    learned = dict(network.named_parameters())
    total = torch.stack(list(moment.losses.values())).sum()
    gradients = torch.autograd.grad(total, list(learned.values()), materialize_grads=True)
    return moment, dict(zip(learned, gradients, strict=True))


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-11)


@pytest.mark.heavy
@pytest.mark.parametrize("graph", GRAPHS)
def test_what_is_compiled_is_what_the_rule_does(graph: str) -> None:
    network = built(GRAPHS[graph]())
    clamp = clamped(network)
    found = traced("il", network, clamp, 4)
    moment, gradients = expected("il", network, clamp, 4)
    assert bool(found["finite"]["all"].all())
    assert_same(found["values"], {n: v for n, v in moment.values.items() if n not in clamp})
    assert_same(found["energy"], dict(moment.energy))
    assert_same(found["start"], dict(moment.start))
    assert_same(found["gradients"], gradients)
    assert any(bool(one.abs().max() > 0) for one in gradients.values())


def test_nothing_that_is_compiled_is_added_with_a_factor() -> None:
    """Inductor forgets the factor where a product is added; see also `test_fastest`, which compiles this."""
    network = built(dense("ab", "bc", "cd", "ad"))  # not the short way of layers
    weights, clamp = dict(network.named_parameters()), clamped(network)
    function = module.batch_function(RULES["il"], Local(network), tuple(weights), tuple(clamp), 2)
    flat = packages._Flat(function, (*weights.values(), *clamp.values()))
    with torch.no_grad(), packages._as_if_compiled():
        operations = list(packages._trace(flat).graph.nodes)
    assert any("aten.mm" in str(one.target) for one in operations)
    added = [one for one in operations if "aten.add" in str(one.target) and "addmm" not in str(one.target)]
    assert added
    assert not any("alpha" in one.kwargs for one in added)


@pytest.mark.heavy
@pytest.mark.parametrize("rule", ["fpa", "zil", "bp"])
def test_other_rules_with_one_moment_are_compiled_too(rule: str) -> None:
    network = built(dense("ab", "bc", "cd"))
    clamp = clamped(network)
    found = traced(rule, network, clamp, 3)
    moment, gradients = expected(rule, network, clamp, 3)
    assert_same(found["energy"], dict(moment.energy))
    assert_same(found["gradients"], gradients)


@pytest.mark.heavy
def test_the_weights_of_a_backbone_are_no_constants() -> None:
    network = residual("energy", "synchronous").double()
    assert network.drive is not None
    network.drive.requires_grad_(True)
    clamp = {"input": torch.rand(2, 3, 16, 16, dtype=torch.float64)}
    found = traced("il", network, clamp, 2)
    _, gradients = expected("il", network, clamp, 2)
    assert_same(found["gradients"], gradients)


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a rule that moves them at every step": (dense("ab", "bc", "cd"), "ipc", "more than once a batch"),
    "noise at the start": (dense("ab", "bc", "cd", schedule={"initial": "normal"}), "il", "random numbers"),
    "an end that depends on the states": (
        dense("ab", "bc", "cd", schedule={"tolerance": 1e-9}),
        "il",
        "not compiled",
    ),
}


@pytest.mark.heavy
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_compiled_learns_all_the_same(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, rule, reason = REFUSED[case]
    monkeypatch.setattr(packages, "_write", None)  # it must not come to that
    weights = []
    for compiled in (False, True):
        network = built(spec)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        torch.manual_seed(1)
        updates = learn(network, [clamped(network)] * 2, optimizer, rule=rule, steps=2, compiled=compiled)
        if compiled:
            with pytest.warns(PCGraphWarning, match=reason) as warned:
                list(updates)
            assert len([one for one in warned if one.category is PCGraphWarning]) == 1
        else:
            list(updates)
        weights.append([one.detach().clone() for one in network.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


@pytest.mark.parametrize("kind", ["predictor", "start"])
def test_what_keeps_something_between_calls_learns_uncompiled(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "_write", lambda *_: {})
    counts = {"predictor": "python:tests.simulation.test_compiling:counting"}
    if kind == "start":
        start = [{"source": "a", "target": "c", **counts}]
        spec = dense("cb", "ca", "dc", start=start, schedule={"initial": "amortised"})
    else:
        spec = dense("ab", "cd")
        spec["edges"].append({"source": "b", "target": "c", **counts})
    weights = []
    for compiled in (False, True):
        network = built(spec)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        updates = learn(network, [clamped(network)] * 2, optimizer, steps=2, compiled=compiled)
        with (
            pytest.warns(PCGraphWarning, match="keeps something between its calls: '.*(calls|last)'")
            if (compiled)
            else contextlib.nullcontext()
        ):
            list(updates)
        weights.append([one.detach().clone() for one in network.parameters()])
    torch.testing.assert_close(*weights)


def test_a_hook_is_heard() -> None:
    network = built(dense("ab", "bc", "cd"))
    heard = []
    network.predictors["b->c"].register_forward_hook(lambda *_: heard.append(1))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with pytest.warns(PCGraphWarning, match="hook"):
        list(learn(network, [clamped(network)], optimizer, steps=2, compiled=True))
    assert heard


def test_other_tasks_are_refused() -> None:
    network = residual("predify", "sweep")
    with pytest.raises(InputError, match="cannot be compiled"):
        make_task(network, Train(task="feedback"), compiled=True)


def test_gradients_that_are_known_are_added_like_others() -> None:
    parameters = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))]
    losses = Differentiated({"x": torch.tensor(1.0)}, [torch.full((2,), 3.0), torch.full((3,), 4.0)])
    differentiate(losses, parameters)
    differentiate(losses, parameters, share=0.5)
    assert [one.grad.tolist() for one in parameters] == [[4.5] * 2, [6.0] * 3]
    assert losses.gradients[0].tolist() == [3.0] * 2


@pytest.mark.heavy
def test_compiled_learning(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCGRAPH_CACHE", str(tmp_path / "cache"))
    stepped: list[int] = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda own: stepped.append(step(own) or 1))
    found = []
    for compiled in (False, True, True):
        network = built(GRAPHS["skip"]())
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=0.1)
        batches = [clamped(network, *one) for one in ((3, 0), (3, 1), (2, 0), (3, 2))]  # one unlike the first
        stepped.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("error", PCGraphWarning)
            energies = []
            for update in learn(network, batches, optimizer, steps=3, compiled=compiled):
                energies.append(update.total)
                optimizer.param_groups[0]["lr"] *= 0.5
        assert len(stepped) == (1 if compiled else 4)  # the others are in the compiled function
        found.append((energies, numbers(network, optimizer)))
        if compiled:  # once; from now on nothing may be compiled
            assert len(Cache(tmp_path / "cache").entries()) == 1
            monkeypatch.setattr(packages, "_write", None)
    for other, now in found[1:]:
        assert other == pytest.approx(found[0][0], rel=1e-9)
        assert_same(now, found[0][1])
    before = {name: one.clone() for name, one in numbers(network, optimizer).items()}
    bad = clamped(network)
    bad["a"][0, 0] = torch.nan
    updates = learn(network, [clamped(network), bad], optimizer, steps=3, compiled=True)
    versions = [one._version for one in network.parameters()]
    next(updates)
    assert all(one._version > then for one, then in zip(network.parameters(), versions, strict=True))
    assert any(not torch.equal(one, before[name]) for name, one in numbers(network, optimizer).items())
    before = {name: one.clone() for name, one in numbers(network, optimizer).items()}
    with pytest.raises(DivergenceError):
        next(updates)
    assert all(torch.equal(one, before[name]) for name, one in numbers(network, optimizer).items())


def numbers(network: pcg.PCNetwork, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights, their gradients, and the optimizer's state."""
    found: dict[str, Tensor] = {}
    for name, one in network.named_parameters():
        assert one.grad is not None
        state = {f"{name} {key}": value.double() for key, value in optimizer.state[one].items()}
        found |= {name: one.detach(), f"{name} grad": one.grad, **state}
    return found
