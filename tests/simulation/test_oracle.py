"""The scheduler against the reference implementation, on random networks without a backbone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import event, given
from hypothesis import strategies as st
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.simulation import image_parts
from tests.examples import examples
from tests.reference import Record, Reference, written_edges

pytestmark = pytest.mark.usefixtures("tiny_networks")

EVERYTHING = ["values", "predictions", "errors", "energy", "gradients"]


@dataclass
class Case:
    """A network, and what a run of it is given."""

    spec: dict[str, Any]
    batch: int
    steps: int
    seed: int
    given: list[str]
    masked: list[str]
    free: list[str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(node["shape"]) for name, node in self.spec["nodes"].items()}

    def arguments(self) -> dict[str, Any]:
        """The arguments of `Scheduler.run`: random values of the given nodes, and random masks."""
        generator = torch.Generator().manual_seed(self.seed)
        values: dict[str, Tensor] = {}
        mask: dict[str, Tensor] = {}
        for name in self.given:
            shape = (self.batch, *self.shapes[name])
            values[name] = torch.randn(shape, generator=generator, dtype=torch.float64)
        for index, name in enumerate(self.masked):
            shape = (self.batch, *self.shapes[name])[index % 2 :]  # with the batch, or for all images
            mask[name] = torch.rand(shape, generator=generator) < 0.5
        return {
            "inputs": values.pop(next(iter(self.shapes))),
            "clamp": values,
            "mask": mask,
            "free": self.free,
        }


# ---- random networks ------------------------------------------------------------------------------

MAPS = [[1, 2, 2], [2, 2, 2], [1, 4, 4], [2, 4, 4]]


@st.composite
def predictors(draw: st.DrawFn, source: list[int], target: list[int], counted: bool) -> Any:
    """A predictor between two shapes; with ``counted`` no last activation that hides units."""
    last = draw(st.sampled_from([[], ["Tanh"]] if counted else [[], ["Tanh"], ["ReLU"], ["Softplus"]]))
    choices: list[Any] = ["auto"]
    if len(source) == len(target) == 1:
        choices += [["Linear", *last], [{"Linear": {"out_features": 3}}, "Tanh", "Linear", *last]]
    elif len(source) == len(target) == 3:
        kernel = {
            1: {"kernel_size": 3, "padding": 1},
            2: {"kernel_size": 4, "stride": 2, "padding": 1},
            4: {"kernel_size": 4, "stride": 4},
        }
        if source[1] <= target[1]:
            choices += [[{"ConvTranspose2d": kernel[target[1] // source[1]]}, *last]] * 2
        else:
            choices += [[{"Conv2d": kernel[source[1] // target[1]]}, *last]] * 2
        choices += [["Flatten", "Linear", *last, "Unflatten"]]
    elif len(source) == 3:
        choices += [["Flatten", "Linear", *last]]
    else:
        choices += [["Linear", *last, "Unflatten"]]
    return draw(st.sampled_from(choices))


def shares(most: float) -> st.SearchStrategy[float]:
    return st.sampled_from([0.0, most / 10, most / 3, most])


@st.composite
def dynamics(draw: st.DrawFn, nodes: list[str]) -> dict[str, Any]:
    own: dict[str, Any]
    if draw(st.booleans()):
        own = {name: {"rate": draw(shares(0.3))} for name in nodes if draw(st.booleans())}
        return {"rule": "energy", "rate": draw(shares(0.2)), "nodes": own}
    fields = {"feedforward": shares(0.5), "feedback": shares(0.5), "error": shares(0.2)}
    gradient = draw(st.sampled_from(["sum", "mean", "normalized"]))
    general = {name: draw(values) for name, values in fields.items()}
    own = {}
    for name in nodes:
        chosen = draw(st.sets(st.sampled_from(list(fields))))
        if chosen:
            own[name] = {field: draw(fields[field]) for field in sorted(chosen)}
    share = {
        "feedback": draw(st.sampled_from(["target", "edge"])),
        "error": draw(st.sampled_from(["edge", "source"])),
    }
    free = {"share": share, "allow_negative_memory": True}
    return {"rule": "predify", "gradient": gradient, **general, "nodes": own, **free}


def precisions(entries: int = 0) -> st.SearchStrategy[Any]:
    """One number, or one for each entry of the target's first dimension (short in binary)."""
    number = st.sampled_from([0.25, 0.5, 1.5])
    return st.one_of(number, st.lists(number, min_size=entries, max_size=entries)) if entries else number


@st.composite
def edges(draw: st.DrawFn, spec: dict[str, Any]) -> None:
    """Add random feedforward and feedback edges to a spec; every node is tied to the first one."""
    shapes: dict[str, list[int]] = {name: node["shape"] for name, node in spec["nodes"].items()}
    names = list(shapes)
    rank = {name: position for position, name in enumerate(draw(st.permutations(names)))}
    predify = spec["dynamics"]["rule"] == "predify"
    counts = predify and spec["dynamics"]["gradient"] == "normalized"
    bundles: dict[str, dict[str, Any]] = {}
    pairs: list[tuple[tuple[str, ...], str]] = []
    for position, name in enumerate(names[1:]):
        other = draw(st.sampled_from(names[: position + 1]))
        pairs.append(((name,), other) if draw(st.booleans()) else ((other,), name))
    for _ in range(draw(st.integers(0, len(names) + 2))):
        first, target = draw(st.sampled_from(names)), draw(st.sampled_from(names))
        alike = [name for name in names if name != first and shapes[name][1:] == shapes[first][1:]]
        more = draw(st.lists(st.sampled_from(alike), unique=True, max_size=2)) if alike else []
        pairs.append(((first, *more), target))
    for sources, target in dict.fromkeys(pairs):
        kind = draw(st.sampled_from(["edges", "feedback"]))
        edge: dict[str, Any] = {
            "source": sources[0] if len(sources) == 1 else list(sources),
            "target": target,
        }
        delay = draw(st.sampled_from([None, None, 0, 1, 2, 3]))
        default = 0 if kind == "edges" and spec["schedule"]["order"] == "sweep" else 1
        now = (default if delay is None else delay) == 0
        if now and any(rank[source] >= rank[target] for source in sources):
            delay, now = draw(st.integers(1, 3)), False  # edges of delay 0 make no cycle
        if delay is not None:
            edge["delay"] = delay
        weights: dict[str, Any] = {}
        if predify and draw(st.integers(0, 3)) == 0:
            weights["gain"] = draw(shares(0.3))
        if not predify and draw(st.booleans()):
            weights["precision"] = draw(precisions(shapes[target][0]))
        elif not predify and draw(st.integers(0, 3)) == 0:
            weights["energy"] = draw(st.sampled_from(["categorical", "bernoulli"]))
            weights["precision"] = draw(precisions())
        if draw(st.booleans()):
            edge["bundle"] = f"{kind} {now} {target} {draw(st.integers(0, 1))}"
            weights = bundles.setdefault(edge["bundle"], weights)
        edge |= weights
        if predify and draw(st.integers(0, 3)) == 0:
            edge["error"] = draw(shares(0.2))
        counted = counts and len(sources) == 1 and draw(st.booleans())
        if counts and not counted:
            edge["reach"] = draw(st.sampled_from([1.0, 4.0, 7.5]))
        joined = [sum(shapes[source][0] for source in sources), *shapes[sources[0]][1:]]
        edge["predictor"] = draw(predictors(joined, shapes[target], counted))
        spec[kind].append(edge)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    count = draw(st.integers(2, 6))
    only_vectors = draw(st.booleans())
    nodes = {}
    for name in "abcdef"[:count]:
        vector = [draw(st.integers(1, 4))]
        nodes[name] = {
            "shape": vector if only_vectors or draw(st.booleans()) else draw(st.sampled_from(MAPS))
        }
    names = list(nodes)
    order = draw(st.sampled_from(["synchronous", "sweep"]))
    initial = draw(st.sampled_from(["feedforward", "feedforward", "zeros"]))
    spec: dict[str, Any] = {"name": "random", "nodes": nodes, "edges": [], "feedback": []}
    spec["dynamics"] = draw(dynamics(names))
    spec["schedule"] = {"order": order, "initial": initial}
    draw(edges(spec))
    held = [names[0], *(name for name in names[1:] if draw(st.integers(0, 3)) == 0)]
    fate = {name: draw(st.sampled_from(["whole", "masked", "free"])) for name in held}
    return Case(
        spec=spec,
        batch=draw(st.integers(1, 3)),
        steps=draw(st.integers(1, 5)),
        seed=draw(st.integers(0, 1000)),
        given=held,
        masked=[name for name in held if fate[name] == "masked"],
        free=[name for name in held if fate[name] == "free"],
    )


# ---- comparing ------------------------------------------------------------------------------------


def build(case: Case) -> pcg.PCNetwork:
    return pcg.build(pcg.parse_spec(case.spec), seed=case.seed).double()


def reference_run(
    case: Case, network: pcg.PCNetwork, arguments: dict[str, Any], first_order: bool = False
) -> Record:
    edges = written_edges(network.spec, network.predictors)
    reference = Reference(network.spec, case.shapes, edges, first_order)
    values = {next(iter(case.shapes)): arguments["inputs"], **arguments["clamp"]}
    reference.start(values, arguments["mask"], case.free, case.batch)
    return reference.run(case.steps)


def assert_close(found: Tensor, wanted: Tensor, what: str, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(
        found, wanted, atol=tolerance, rtol=tolerance, msg=lambda message: f"{what}: {message}"
    )


def assert_same(run: pcg.Run, expected: Record, quantities: list[str] = EVERYTHING) -> None:
    """Every name of every quantity at every step, and no name more or less."""
    for quantity in quantities:
        found, wanted = getattr(run, quantity), getattr(expected, quantity)
        assert set(found) == set(wanted), quantity
        for name, series in wanted.items():
            assert len(found[name]) == len(series), f"{quantity} of {name}"
            for step, value in enumerate(series):
                assert_close(found[name][step], value, f"{quantity} of {name}, step {step}")


def tell(case: Case) -> None:
    """What hypothesis counts, for ``--hypothesis-show-statistics``."""
    every = case.spec["edges"] + case.spec["feedback"]
    event(case.spec["dynamics"]["rule"] + ", " + case.spec["schedule"]["order"])
    for what, found in {
        "self edge": any(edge["target"] in edge["source"] for edge in every),
        "several sources": any(isinstance(edge["source"], list) for edge in every),
        "slow edge": any(edge.get("delay", 1) > 1 for edge in every),
        "mask": bool(case.masked),
    }.items():
        if found:
            event(what)


@examples(200)
@given(cases())
def test_every_quantity_at_every_step(case: Case) -> None:
    tell(case)
    network = build(case)
    arguments = case.arguments()
    run = pcg.Scheduler(network).run(steps=case.steps, record=EVERYTHING, **arguments)
    with torch.no_grad():
        expected = reference_run(case, network, arguments)
    assert_same(run, expected)
    for name, value in run.state.values.items():
        assert_close(value, expected.values[name][-1], f"the last state of {name}")


@examples(40)
@given(cases())
def test_large_predictions_are_made_a_few_images_at_a_time(case: Case) -> None:
    network = build(case)
    arguments = case.arguments()
    layers = (*image_parts.APART, nn.Linear, nn.Conv2d, nn.Tanh, nn.Softplus, nn.Flatten, nn.Unflatten)
    with patch.object(image_parts, "PART", 1), patch.object(image_parts, "APART", layers):
        run = pcg.Scheduler(network).run(steps=case.steps, record=["values"], **arguments)
    with torch.no_grad():
        expected = reference_run(case, network, arguments)
    assert_same(run, expected, ["values"])


@st.composite
def sequential_cases(draw: st.DrawFn) -> Case:
    """The same networks, with blocks of nodes that move one after the other."""
    case = draw(cases())
    for edge in case.spec["edges"] + case.spec["feedback"]:
        if edge.get("delay") == 0:
            del edge["delay"]
    names = draw(st.permutations(list(case.shapes)))
    cuts = sorted(draw(st.sets(st.integers(1, len(names)), min_size=1)))
    order = [names[i:j] for i, j in zip([0, *cuts], cuts, strict=False)]
    case.spec["schedule"]["order"] = order
    return case


@examples(40)
@given(sequential_cases())
def test_blocks_that_move_one_after_the_other(case: Case) -> None:
    network = build(case)
    arguments = case.arguments()
    scheduler = pcg.Scheduler(network)
    run = scheduler.run(steps=case.steps, record=EVERYTHING, **arguments)
    with torch.no_grad():
        expected = reference_run(case, network, arguments)
    assert_same(run, expected)
    state = scheduler.start(**arguments)
    for _ in range(case.steps):
        state = scheduler.step(state)
    for name, value in scheduler.run(steps=case.steps, record=[], **arguments).state.values.items():
        assert torch.equal(value, state.values[name])


# ---- gradients ------------------------------------------------------------------------------------


def loss(values: dict[str, list[Tensor]]) -> Tensor:
    """A number that depends on every state at every step, each with another weight."""
    total = torch.zeros((), dtype=torch.float64)
    for index, series in enumerate(values.values()):
        for step, value in enumerate(series):
            weights = torch.linspace(0.5, 1.5, value[0].numel(), dtype=torch.float64).view_as(value[0])
            total = total + (value.sin() * weights).sum() / (1 + index + step)
    return total


def gradients_of(
    case: Case, network: pcg.PCNetwork, values: Callable[[dict[str, Any]], dict[str, list[Tensor]]]
) -> dict[str, Tensor]:
    """The gradient of `loss` for the image, the given values and every parameter of the predictors."""
    arguments = case.arguments()
    inputs = arguments["inputs"].requires_grad_()
    clamp = {name: value.requires_grad_() for name, value in arguments["clamp"].items()}
    arguments |= {"inputs": inputs, "clamp": clamp}
    wanted = {"inputs": inputs, **clamp, **dict(network.predictors.named_parameters())}
    found = torch.autograd.grad(loss(values(arguments)), list(wanted.values()), allow_unused=True)
    return {
        name: torch.zeros_like(tensor) if gradient is None else gradient
        for (name, tensor), gradient in zip(wanted.items(), found, strict=True)
    }


def check_gradients(case: Case, differentiable: Any) -> None:
    network = build(case)
    expected = gradients_of(
        case, network, lambda a: reference_run(case, network, a, differentiable == "first_order").values
    )

    def simulate(arguments: dict[str, Any], checkpoint: bool) -> dict[str, list[Tensor]]:
        run = pcg.Scheduler(network).run(
            steps=case.steps,
            record=["values"],
            differentiable=differentiable,
            checkpoint=checkpoint,
            **arguments,
        )
        return run.values

    for checkpoint in (False, True):
        found = gradients_of(case, network, lambda a, c=checkpoint: simulate(a, c))
        for name, gradient in expected.items():
            assert_close(found[name], gradient, f"{name}, checkpoint={checkpoint}", 1e-9)


@pytest.mark.parametrize("differentiable", [True, "first_order"])
@examples(60)
@given(case=cases())
def test_gradients_of_a_differentiable_run(differentiable: Any, case: Case) -> None:
    check_gradients(case, differentiable)


@examples(15)
@given(case=sequential_cases())
def test_gradients_of_a_differentiable_run_in_blocks(case: Case) -> None:
    check_gradients(case, True)
