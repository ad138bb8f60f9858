"""``network(images, steps=n)``: what it gives, for which gradient mode, and that nothing stays behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.errors import InputError
from pcgraph.network import PCNetwork
from tests.nets import DictOutput, Residual, TupleOutput, settled
from tests.training.nets import tiny

MLP = {
    "name": "mlp",
    "nodes": {"image": {"shape": [6]}, "hidden": {"shape": [5]}, "label": {"shape": [3]}},
    "edges": [
        {"source": "image", "target": "hidden", "predictor": ["Linear", "Tanh"]},
        {"source": "hidden", "target": "label", "predictor": ["Linear"]},
    ],
    "feedback": [{"source": "label", "target": "hidden"}],
    "dynamics": {"rule": "energy", "rate": 0.1},
    "schedule": {"steps": 4},
}


def backed(model: nn.Module, shape: list[int], nodes: dict[str, str], **fields: Any) -> PCNetwork:
    dynamics = {"feedforward": 0.4, "feedback": 0.3, "error": 0.05, "gradient": "sum"}
    spec = {"name": "n", "backbone": {"input": shape}, "nodes": nodes, "feedback": "chain"}
    return pcg.build({**spec, "dynamics": dynamics, "schedule": {"steps": 3}, **fields}, model=model)


def chain(**fields: Any) -> PCNetwork:
    return backed(tiny(), [1, 12, 12], {"e1": "1", "e2": "3"}, **fields)


def residual() -> PCNetwork:
    nodes = {"a": "stem", "b": "block1.conv2", "c": "block2.conv2"}
    return backed(settled(Residual()), [3, 16, 16], nodes, schedule={"order": "sweep", "steps": 3})


@pytest.mark.parametrize("make", [chain, residual])
@pytest.mark.parametrize("steps", [0, 1, 5, None])
def test_it_is_the_output_of_a_run_after_so_many_steps(make: Any, steps: int | None) -> None:
    network = make()
    images = torch.randn(3, *network.drive.shapes["input"])
    run = pcg.Scheduler(network).run(images, steps, record=["output"])
    with torch.no_grad():
        assert torch.equal(network(images, steps=steps), run.output[-1])
    torch.testing.assert_close(network(images, steps=steps), run.output[3 if steps is None else steps])


@pytest.mark.parametrize(("model", "nodes"), [(TupleOutput, {"e": "conv"}), (DictOutput, {"e": "conv"})])
def test_without_a_step_it_is_the_plain_model(model: Any, nodes: dict[str, str]) -> None:
    """Of several outputs it is the first tensor of shape (batch, classes)."""
    plain = settled(model())
    network = backed(plain, [3, 8, 8], nodes, feedback="to_input")
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        given, outputs = network(images, steps=0), plain(images)
    assert torch.equal(given, outputs["out"] if isinstance(outputs, dict) else outputs[0])


@pytest.mark.parametrize("steps", [0, 2, None])
def test_without_a_backbone_it_is_every_node_by_name(steps: int | None) -> None:
    network, images = pcg.build(MLP), torch.randn(4, 6)
    with torch.no_grad():
        given = network(images, steps=steps)
    run = pcg.Scheduler(network).run(images, steps, record=["values"])
    assert list(given) == ["image", "hidden", "label"]
    assert all(torch.equal(given[name], run.values[name][-1]) for name in given)
    with torch.no_grad():
        hidden, label = network.predictors["image->hidden"], network.predictors["hidden->label"]
        if steps == 0:  # a closed form: each node starts at its prediction
            torch.testing.assert_close(given["label"], label(hidden(images)))


def test_gradients_follow_the_callers_mode() -> None:
    network, images = chain(), torch.randn(2, 1, 12, 12)
    assert network(images).requires_grad
    with torch.no_grad():
        assert network(images).grad_fn is None
    with torch.inference_mode():
        assert network(images).grad_fn is None
    network.requires_grad_(False)
    assert network(images).grad_fn is None
    assert network(images.requires_grad_()).grad_fn is not None


def test_gradients_are_those_of_finite_differences() -> None:
    """Of the images and of every weight that requires one, the error gradients' own included."""
    network = chain().double()
    images = torch.randn(2, 1, 12, 12, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(2, 10, dtype=torch.float64)

    def value() -> Tensor:
        return (network(images, steps=3) * direction).sum()

    weights = dict(network.named_parameters())
    tracked = {name: weight for name, weight in weights.items() if weight.requires_grad}
    assert {name.split(".")[0] for name in tracked} == {"predictors"}
    tracked["images"] = images
    found = dict(zip(tracked, torch.autograd.grad(value(), list(tracked.values())), strict=True))
    step = 1e-6
    for name, tensor in tracked.items():
        along = torch.randn_like(tensor)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                tensor.add_(along, alpha=sign * step)
                ends.append(value())
                tensor.sub_(along, alpha=sign * step)
        slope = (ends[0] - ends[1]) / (2 * step)
        torch.testing.assert_close((found[name] * along).sum(), slope, rtol=1e-5, atol=1e-8)


def test_nothing_stays_in_the_network() -> None:
    network, images = chain(), torch.randn(2, 1, 12, 12)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        first = network(images, steps=3)
        network(torch.randn(5, 1, 12, 12), steps=2)
        assert torch.equal(network(images, steps=3), first)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_module_around_it_trains_it() -> None:
    model = nn.Sequential(chain(), nn.Linear(10, 1))
    images, target = torch.randn(8, 1, 12, 12), torch.randn(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        losses.append(nn.functional.mse_loss(model(images), target))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]


def test_what_does_not_fit_is_refused() -> None:
    network = chain()
    with pytest.raises(InputError, match="steps=-1"):
        network(torch.randn(2, 1, 12, 12), steps=-1)
    with pytest.raises(InputError):
        network(torch.randn(2, 3, 12, 12))


def test_a_scheduler_of_what_build_takes() -> None:
    images = torch.rand(2, 1, 28, 28)
    expected = pcg.Scheduler(pcg.build("digits")).run(images, 2).output[2]
    for given in ("digits", pcg.load_spec("digits"), {"extends": "digits"}):
        assert torch.equal(pcg.Scheduler(given).run(images, 2).output[2], expected)
    network = pcg.build("digits")
    assert pcg.Scheduler(network).network is network
