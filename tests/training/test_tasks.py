"""What `pcgraph train` trains besides the feedback: through time, and by the energy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import pcgraph as pcg
from pcgraph.datasets import Batch, batches
from pcgraph.errors import InputError
from pcgraph.learning import learn
from pcgraph.learning.tasks import make_task
from pcgraph.training import fit
from pcgraph.training.task import Task

from .nets import SPEC, images, network, settings, tiny, weights

LAYERED = """
name: layered
nodes: {image: {shape: [1, 12, 12]}, hidden: {shape: [16]}, label: {shape: [10]}}
edges:
  - {source: image, target: hidden, predictor: [Flatten, Linear, Tanh], precision: learned}
  - {source: hidden, target: label, predictor: [Linear], energy: ENERGY}
dynamics: {rule: energy, rate: 0.1}
schedule: {steps: 3}
"""
TRACED = (
    SPEC.replace("feedback: chain", "feedback: none\ndynamics: {rule: energy}")
    .replace("nodes: {", 'nodes: {label: "5", ')
    .replace("sweep", "synchronous")
)


def layered(energy: str = "categorical", **more: Any) -> str:
    return LAYERED.replace("ENERGY", energy)


def task(spec: str = SPEC, **fields: Any) -> Task:
    made = network(spec)
    return make_task(made, settings(**fields))


def first(of: Task, count: int = 8) -> Batch:
    return next(batches(images(of.network, count), count))


def test_without_steps_it_is_the_plain_networks_training() -> None:
    of = task(task="through_time", steps=0)
    batch = first(of)
    assert of.network.drive is not None
    assert {id(p) for p in of.parameters()} == {id(p) for p in of.network.drive.parameters()}
    model = tiny()
    model.load_state_dict(of.network.drive.model.state_dict())
    expected = F.cross_entropy(model(batch.images), batch.labels)
    (losses,) = of.moments(batch)
    assert list(losses) == ["classification"]
    torch.testing.assert_close(losses["classification"], expected)
    found = torch.autograd.grad(losses["classification"], of.parameters())
    for one, other in zip(found, torch.autograd.grad(expected, list(model.parameters())), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("at", ["every", "last"])
@pytest.mark.parametrize("save_memory", [False, True])
def test_the_loss_through_the_steps(at: str, save_memory: bool) -> None:
    """Against a chain of two nodes unrolled by hand (rule predify, order sweep, gradient sum)."""
    spec = SPEC + "dynamics: {feedforward: 0.4, feedback: 0.2, error: 0.05, gradient: sum}\n"
    of = task(
        spec,
        task="through_time",
        loss={"classification": 2.0, "reconstruction": 0.5, "at": at},
        save_memory=save_memory,
    )
    batch = first(of)
    assert of.network.drive is not None
    layer = dict(of.network.drive.model.named_children())
    down1, down2 = of.network.predictors["e1->input"], of.network.predictors["e2->e1"]
    e1 = F.relu(layer["0"](batch.images))
    e2 = F.relu(layer["2"](e1))
    classification, low, high = [], [], []
    for step in range(3):
        p1, p2 = down1(e1), down2(e2)
        classification.append(F.cross_entropy(layer["5"](e2.flatten(1)), batch.labels))
        low.append(F.mse_loss(p1, batch.images))
        high.append(F.mse_loss(p2, e1.detach()))
        if step < 2:
            pull1 = torch.autograd.grad((p1 - batch.images).square().sum() / 2, e1, create_graph=True)[0]
            pull2 = torch.autograd.grad(p2, e2, p2 - e1, create_graph=True)[0]
            e1 = 0.4 * F.relu(layer["0"](batch.images)) + 0.2 * p2 + 0.4 * e1 - 0.05 * pull1
            e2 = 0.4 * F.relu(layer["2"](e1)) + 0.6 * e2 - 0.05 * pull2
    pick = (lambda values: torch.stack(values).mean()) if at == "every" else (lambda values: values[-1])
    expected = {
        "classification": 2 * pick(classification),
        "e1->input": pick(low) / 2,
        "e2->e1": pick(high) / 2,
    }
    (losses,) = of.moments(batch)
    assert set(losses) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)
    one = torch.autograd.grad(sum(losses.values()), of.parameters())
    other = torch.autograd.grad(sum(expected.values()), of.parameters())
    for found, right in zip(one, other, strict=True):
        torch.testing.assert_close(found, right, atol=1e-6, rtol=1e-4)


def test_a_trained_backbone_is_loaded_by_the_written_spec(tmp_path: Path) -> None:
    of = task(task="through_time", steps=1, loss={"reconstruction": 0.1})
    data = images(of.network, 24)
    fit(of, data, settings(), tmp_path, device="cpu", trackers=[], validation=images(of.network, 12))
    again = pcg.build(tmp_path / "spec.yaml", trust=True, seed=5)
    assert torch.equal(weights(again), weights(of.network))
    batch = first(of)
    states = [pcg.Scheduler(one).run(batch.images, steps=2).output[2] for one in (again, of.network)]
    assert torch.equal(*states)
    assert "accuracy at step 0" in (tmp_path / "losses.csv").read_text()


@pytest.mark.parametrize("rule", ["il", "ipc", "fpa", "zil", "bp"])
def test_the_engine_moves_the_weights_as_learn_does(tmp_path: Path, rule: str) -> None:
    of = task(layered(), rule=rule)
    data = images(of.network, 24)
    fit(of, data, settings(optimizer={"name": "AdamW"}), tmp_path, device="cpu", trackers=[])
    other = network(layered())
    clamps = [
        {"image": batch.images, "label": F.one_hot(batch.labels, 10).float()}
        for epoch in range(2)
        for batch in batches(data, 8, epoch=epoch, shuffle=True)
    ]
    optimizer = torch.optim.AdamW(other.parameters(), lr=1e-3)
    for _ in learn(other, clamps, optimizer, rule=rule):  # type: ignore[arg-type]
        pass
    assert torch.equal(weights(of.network), weights(other))
    again = pcg.build(tmp_path / "spec.yaml")
    assert torch.equal(weights(again), weights(of.network))


@pytest.mark.parametrize(("rule", "feedback"), [("il", "none"), ("ipc", "chain"), ("zil", "none")])
def test_a_traced_network_learns_by_the_energy(rule: str, feedback: str, tmp_path: Path) -> None:
    of = task(TRACED.replace("feedback: none", f"feedback: {feedback}"), rule=rule, epochs=1)
    before = [parameter.detach().clone() for parameter in of.parameters()]
    fit(of, images(of.network, 16), settings(epochs=1), tmp_path, device="cpu", trackers=[])
    for old, new in zip(before, of.parameters(), strict=True):
        assert not torch.equal(old, new)
    assert torch.equal(weights(pcg.build(tmp_path / "spec.yaml", trust=True)), weights(of.network))


def test_zero_divergence_learning_of_a_traced_network_is_backpropagation() -> None:
    """Half the squared error of the output against the class, one-hot, averaged over the batch."""
    of = task(TRACED, rule="zil")
    batch = first(of)
    assert of.network.drive is not None
    model = tiny()
    model.load_state_dict(of.network.drive.model.state_dict())
    loss = (model(batch.images) - F.one_hot(batch.labels, 10)).square().sum() / 2 / len(batch)
    (energy,) = of.moments(batch)
    found = torch.autograd.grad(sum(energy.values()), of.parameters())
    for one, other in zip(found, torch.autograd.grad(loss, list(model.parameters())), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_a_memory_learns_images_alone() -> None:
    memory = """
    name: memory
    nodes: {image: {shape: [1, 12, 12]}, code: {shape: [16]}}
    edges: [{source: image, target: code, predictor: [Flatten, Linear, Tanh], precision: 0.1}]
    feedback: [{source: code, target: image, predictor: [Tanh, Linear, Unflatten]}]
    dynamics: {rule: energy, rate: 0.1}
    schedule: {steps: 5}
    """
    of = task(memory)
    (energy,) = of.moments(first(of))
    assert set(energy) == {"image->code", "code->image"}
    measured = of.measure(first(of))
    assert measured["energy"] == pytest.approx(sum(e.item() for e in energy.values()), rel=1e-5)


@pytest.mark.parametrize("energy", ["gaussian", "categorical"])
def test_the_accuracy_of_a_layered_network_is_that_of_its_feedforward_pass(energy: str) -> None:
    of = task(layered(energy))
    batch = first(of, 40)
    guess = pcg.Scheduler(of.network).start(batch.images).values["label"].argmax(1)
    assert float(of.measure(batch)["accuracy"]) == pytest.approx(
        float((guess == batch.labels).float().mean())
    )


@pytest.mark.parametrize(
    ("spec", "fields", "message"),
    [
        (SPEC.replace("chain", "none"), {}, "no feedback that could learn"),
        (layered(), {"task": "feedback"}, "no feedback that could learn"),
        (layered(), {"label": "image"}, r"node 'image' of shape \(1, 12, 12\) cannot hold classes"),
        (TRACED.replace("synchronous", "sweep"), {"rule": "ipc"}, "delay 0 and carries no error back"),
        (SPEC, {"task": "through_time", "loss": {"classification": 0}}, "no loss to learn from"),
    ],
)
def test_what_cannot_learn(spec: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        task(spec, **fields)


def test_images_without_classes_or_with_too_many() -> None:
    of = task(task="through_time", steps=0)
    batch = first(of)
    for label, message in ((-1, "no classes to learn"), (10, "an image is of class 10")):
        wrong = Batch(batch.images, torch.full((8,), label), batch.indices)
        with pytest.raises(InputError, match=message):
            next(iter(of.moments(wrong)))
