"""Amortised starts: learned first guesses, against hand-written passes, autograd, and plain starts."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.datasets import digits, open_data, subset
from pcgraph.errors import ModelError, SpecError
from pcgraph.learning import batches, learn, weight_gradients
from pcgraph.learning.tasks import make_task
from pcgraph.network import PCNetwork
from pcgraph.spec import Train
from pcgraph.training import fit

STARTS = """
start:
  - {source: image, target: hidden, predictor: [Linear, Tanh]}
  - {source: hidden, target: code, predictor: [Linear]}
"""
SPEC = """
name: hybrid
nodes: {image: {shape: [IMAGE]}, hidden: {shape: [HIDDEN]}, code: {shape: [CODE]}}
edges:
  - {source: code, target: hidden, predictor: [Linear, Tanh]}
  - {source: hidden, target: image, predictor: [Linear]}
dynamics: {rule: energy, rate: 0.1}
schedule: {initial: INITIAL, steps: 20}
"""


def written(sizes: tuple[int, int, int] = (6, 5, 4), starts: str = STARTS) -> str:
    text = SPEC.replace("INITIAL", "amortised") + starts
    for name, size in zip(("IMAGE", "HIDDEN", "CODE"), sizes, strict=True):
        text = text.replace(name, str(size))
    return text


def hybrid(starts: str = STARTS) -> PCNetwork:
    return pcg.build(pcg.parse_spec(written(starts=starts))).double()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def at_start(network: PCNetwork, clamp: dict[str, Tensor], **more: Any) -> dict[str, Tensor]:
    return dict(pcg.Scheduler(network).start(clamp=clamp, **more).values)


# ---- the state at step 0 ------------------------------------------------------------------------


def test_states_start_at_the_guesses_one_after_the_other() -> None:
    network = hybrid()
    image = normal(3, 6)
    found = at_start(network, {"image": image})
    up, top = network.starts["image->hidden"], network.starts["hidden->code"]
    hidden = torch.tanh(image @ up[0].weight.T + up[0].bias)
    torch.testing.assert_close(found["hidden"], hidden)
    torch.testing.assert_close(found["code"], hidden @ top.weight.T + top.bias)
    assert torch.equal(found["image"], image)


def test_what_is_given_needs_no_guess() -> None:
    network = hybrid()
    image, hidden = normal(3, 6), normal(3, 5, seed=1)
    found = at_start(network, {"image": image, "hidden": hidden})
    assert torch.equal(found["hidden"], hidden)
    torch.testing.assert_close(found["code"], network.starts["hidden->code"](hidden))
    code = normal(3, 4, seed=2)
    for free in ((), ("code",)):
        found = at_start(network, {"image": image, "code": code}, free=free)
        assert torch.equal(found["code"], code)
        torch.testing.assert_close(found["hidden"], network.starts["image->hidden"](image))


def test_a_part_that_is_given_leaves_the_guess_for_the_rest() -> None:
    network = hybrid()
    image, code = normal(3, 6), normal(3, 4, seed=1)
    half = torch.tensor([True, False, True, False])
    found = at_start(network, {"image": image, "code": code}, mask={"code": half})
    guess = network.starts["hidden->code"](network.starts["image->hidden"](image))
    torch.testing.assert_close(found["code"], torch.where(half, code, guess))
    held = torch.tensor([True] * 3 + [False] * 3)
    found = at_start(network, {"image": image}, mask={"image": held})
    assert torch.equal(found["image"], image * held)
    torch.testing.assert_close(found["hidden"], network.starts["image->hidden"](image * held))


def test_without_the_image_the_network_generates_as_before() -> None:
    """No guess is made from an image that is not there."""
    network = hybrid()
    code = normal(3, 4)
    found = at_start(network, {"code": code})
    hidden = network.predictors["code->hidden"](code)
    torch.testing.assert_close(found["hidden"], hidden)
    torch.testing.assert_close(found["image"], network.predictors["hidden->image"](hidden))


def test_nodes_without_a_start_begin_feedforward() -> None:
    """From a node that starts at its guess, too; what predicts the clamped image is no cycle."""
    network = hybrid("start: [{source: image, target: code}]\n")
    image = normal(3, 6)
    found = at_start(network, {"image": image})
    torch.testing.assert_close(found["code"], network.starts["image->code"](image))
    torch.testing.assert_close(found["hidden"], network.predictors["code->hidden"](found["code"]))


def test_several_sources_and_any_order_of_writing() -> None:
    several = "start: [{source: [image, hidden], target: code}, {source: image, target: hidden}]\n"
    network = hybrid(several)
    image = normal(3, 6)
    found = at_start(network, {"image": image})
    torch.testing.assert_close(found["hidden"], network.starts["image->hidden"](image))
    torch.testing.assert_close(found["code"], network.starts["image+hidden->code"](image, found["hidden"]))


def test_a_guess_from_a_backbone() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    spec = """
name: above
backbone: {input: [6]}
nodes: {e: "1", z: {shape: [4]}}
feedback: [{source: z, target: e}]
start: [{source: e, target: z}]
dynamics: {rule: energy}
schedule: {initial: amortised}
"""
    network = pcg.build(pcg.parse_spec(spec), model=model)
    image = normal(2, 6).float()
    state = pcg.Scheduler(network).start(image)
    torch.testing.assert_close(state.values["e"], model[:2](image))
    torch.testing.assert_close(state.values["z"], network.starts["e->z"](model[:2](image)))
    for target in ("e", "input"):
        with pytest.raises(SpecError, match=f"'{target}' starts at what the backbone computes"):
            pcg.parse_spec(
                spec.replace("source: e, target: z}]\ndyn", f"source: z, target: {target}}}]\ndyn")
            )


def test_a_soft_clamp_is_guessed_from() -> None:
    network = hybrid()
    image = normal(3, 6)
    answer = pcg.query(network, {"image": image}, soft={"image": 2.0}, steps=0)
    torch.testing.assert_close(answer.values["hidden"], network.starts["image->hidden"](image))


def test_gradients_reach_the_guesses() -> None:
    network = hybrid()
    state = pcg.Scheduler(network).start(normal(3, 6), differentiable=True)
    state.values["code"].sum().backward()
    assert all(parameter.grad is not None for parameter in network.starts.parameters())


def test_guesses_are_no_edges_of_the_graph() -> None:
    network, plain = (
        hybrid(),
        pcg.build(pcg.parse_spec(written().replace(STARTS, "").replace("amortised", "zeros"))),
    )
    assert list(network.graph.edges) == list(plain.graph.edges) == ["code->hidden", "hidden->image"]
    assert list(network.graph.terms) == list(plain.graph.terms)
    assert list(network.graph.to_networkx().edges) == list(plain.graph.to_networkx().edges)
    for name, weight in plain.state_dict().items():  # of the same seed
        torch.testing.assert_close(network.state_dict()[name].float(), weight)
    chained = written().replace("dynamics:", "feedback: chain\ndynamics:")
    wired = [
        edge.name
        for edge in pcg.build(pcg.parse_spec(chained)).graph.edges.values()
        if edge.kind == "feedback"
    ]
    assert wired == ["image->hidden", "hidden->code"]  # patterns follow the edges alone


# ---- learning -----------------------------------------------------------------------------------


def by_hand(network: PCNetwork, values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The energy and the loss of the guesses at these states, averaged over the batch."""
    image, hidden, code = (values[name].detach() for name in ("image", "hidden", "code"))
    down, out = network.predictors["code->hidden"][0], network.predictors["hidden->image"]
    up, top = network.starts["image->hidden"][0], network.starts["hidden->code"]
    energy = (hidden - torch.tanh(code @ down.weight.T + down.bias)).square().sum() / 2
    energy = energy + (image - hidden @ out.weight.T - out.bias).square().sum() / 2
    guess = (hidden - torch.tanh(image @ up.weight.T + up.bias)).square().sum() / 2
    guess = guess + (code - hidden @ top.weight.T - top.bias).square().sum() / 2
    return energy / len(image), guess / len(image)


@pytest.mark.parametrize("rule", ["il", "ipc"])
def test_gradients_are_those_of_the_written_out_loss(rule: Any) -> None:
    network = hybrid()
    image = normal(7, 6)
    values = dict(pcg.Scheduler(network).run(image, steps=8).state.values)
    energy, guess = by_hand(network, values)
    found = weight_gradients(network, {"image": image}, rule=rule, steps=8)
    own = {name: p for name, p in network.named_parameters() if name.startswith("starts.")}
    others = {name: p for name, p in network.named_parameters() if name not in own}
    assert len(own) == len(others) == 4
    for loss, parameters in ((guess, own), (energy, others)):
        expected = torch.autograd.grad(loss, list(parameters.values()))
        for name, gradient in zip(parameters, expected, strict=True):
            torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-12)
            assert gradient.abs().max() > 1e-6


def test_the_loss_stands_apart_from_the_energy() -> None:
    network = hybrid()
    image = normal(7, 6)
    energy, guess = by_hand(network, dict(pcg.Scheduler(network).run(image, steps=8).state.values))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    (update,) = learn(network, [{"image": image}], optimizer, steps=8)
    assert list(update.energy) == ["code->hidden", "hidden->image"]
    assert list(update.start) == ["start:image->hidden", "start:hidden->code"]
    assert update.total == pytest.approx(energy.item(), rel=1e-10)
    assert float(sum(update.start.values())) == pytest.approx(guess.item(), rel=1e-10)


@pytest.mark.parametrize("rule", ["fpa", "zil", "bp"])
def test_rules_that_go_the_way_of_backpropagation_are_refused(rule: Any) -> None:
    clamp = {"code": normal(2, 4), "image": normal(2, 6)}
    with pytest.raises(pcg.InputError, match=r"'schedule.initial' is not feedforward"):
        weight_gradients(hybrid(), clamp, rule=rule)


def test_a_trained_guess_saves_most_of_inference() -> None:
    """On digits that were not trained on; the same weights of the edges, started from zeros, to compare."""
    text = written((784, 32, 10)).replace("rate: 0.1", "rate: 0.05")
    network = pcg.build(pcg.parse_spec(text))
    plain = pcg.build(pcg.parse_spec(text.replace(STARTS, "").replace("amortised", "zeros")))
    data = digits()
    images, others = data.train_images[::10].flatten(1), data.test_images[::10].flatten(1)

    def runs(of: PCNetwork) -> pcg.Run:
        return pcg.Scheduler(of).run(others, steps=120, record=["energy", "values"])

    def distance(run: pcg.Run, node: str) -> float:
        first, settled = run.values[node][0], run.values[node][-1]
        return float((first - settled).norm() / settled.norm())

    before = runs(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        for _ in learn(network, batches({"image": images}, 50, generator), optimizer, steps=15):
            pass
    plain.predictors.load_state_dict(network.predictors.state_dict())
    after, from_zeros = runs(network), runs(plain)
    for node in ("hidden", "code"):
        assert distance(before, node) > 0.6
        assert distance(after, node) < 0.25
    totals = [
        torch.stack([torch.stack(e) for e in run.energy.values()]).sum(0).mean(1)
        for run in (after, from_zeros)
    ]
    torch.testing.assert_close(totals[0][-1], totals[1][-1], rtol=1e-3, atol=0)  # they settle on the same
    goal = 1.02 * totals[1][-1]
    steps, steps_from_zeros = (int((total <= goal).nonzero()[0]) for total in totals)
    assert steps * 4 <= steps_from_zeros
    assert totals[0][0] < 0.3 * totals[1][0]


# ---- files --------------------------------------------------------------------------------------


def test_weights_are_saved_and_loaded(tmp_path: Path) -> None:
    network = hybrid().float()
    network.save_weights(tmp_path / "w.safetensors")
    saved = load_file(tmp_path / "w.safetensors")
    assert "start:image->hidden.0.weight" in saved
    assert "code->hidden.0.weight" in saved
    other = pcg.build(pcg.parse_spec(written() + "weights: w.safetensors\n", tmp_path), seed=1)
    for name, weight in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], weight)
    plain = written().replace(STARTS, "").replace("amortised", "zeros") + "weights: w.safetensors\n"
    with pytest.raises(ModelError, match=r"'start:hidden->code\.bias' belongs to no edge"):
        pcg.build(pcg.parse_spec(plain, tmp_path))


def test_pcgraph_train_teaches_the_guesses(tmp_path: Path) -> None:
    """A label that only a start leads to is a class to learn, and its guess is read back."""
    spec = """
name: supervised
nodes: {image: {shape: [1, 28, 28]}, hidden: {shape: [32]}, label: {shape: [10]}}
edges:
  - {source: label, target: hidden, predictor: [Linear, Tanh]}
  - {source: hidden, target: image, predictor: [Linear, Unflatten]}
start:
  - {source: image, target: hidden, predictor: [Flatten, Linear, Tanh]}
  - {source: hidden, target: label, predictor: [Linear]}
dynamics: {rule: energy, rate: 0.05}
schedule: {initial: amortised, steps: 5}
"""
    network = pcg.build(pcg.parse_spec(spec))
    settings = Train.model_validate({"epochs": 5, "batch": 50, "optimizer": {"lr": 5e-3}})
    data = open_data("digits", "train", shape=(1, 28, 28), preprocess=None)
    held_out = subset(data, range(1, 4000, 20))
    fit(
        make_task(network, settings),
        subset(data, range(0, 4000, 8)),
        settings,
        tmp_path,
        resume=False,
        validation=held_out,
    )
    with (tmp_path / "losses.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["value"]) for row in rows if row["name"] == "start:hidden->label"]
    assert losses[-1] < 0.36  # the mean of ten classes costs 0.45
    assert {"label->hidden", "hidden->image", "start:image->hidden"} <= {row["name"] for row in rows}
    accuracy = [float(row["value"]) for row in rows if row["name"] == "accuracy"]
    assert accuracy[-1] > 0.4  # chance is 0.1
    trained = pcg.build(tmp_path / "spec.yaml")
    assert torch.equal(trained.starts["hidden->label"].weight, network.starts["hidden->label"].weight)
