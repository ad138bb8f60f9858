"""Queries: held, free and softly held nodes, against closed forms of linear graphs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import pcgraph as pcg

PAIR = """
name: pair
nodes: {code: {shape: [3]}, image: {shape: [1, 2, 2]}}
edges: [{source: code, target: image, predictor: [Linear, Unflatten], precision: 2.0}]
dynamics: {rule: energy, rate: 0.2}
schedule: {steps: 400}
"""
LABELLED = """
name: labelled
nodes: {image: {shape: [4]}, hidden: {shape: [5]}, label: {shape: [3]}}
edges:
  - {source: image, target: hidden, predictor: [Linear, Tanh]}
  - {source: hidden, target: label, predictor: [Linear], energy: categorical}
feedback: [{source: label, target: image, predictor: [Linear]}]
dynamics: {rule: energy, rate: 0.1, nodes: {label: {rate: 0}}}
schedule: {initial: zeros}
"""


def pair() -> pcg.PCNetwork:
    """A code of three units behind an orthogonal matrix, so that inference settles soon."""
    network = pcg.build(pcg.parse_spec(PAIR)).double()
    torch.nn.init.orthogonal_(network.predictors["code->image"][0].weight)
    return network


def matrix(network: pcg.PCNetwork) -> tuple[torch.Tensor, torch.Tensor]:
    linear = network.predictors["code->image"][0]
    return linear.weight.detach(), linear.bias.detach()


def test_what_is_free_settles_where_the_energy_is_lowest() -> None:
    """A code that predicts a held image: least squares."""
    network = pair()
    image = torch.randn(5, 1, 2, 2, dtype=torch.float64)
    answer = pcg.query(network, {"image": image}, steps=200)
    weight, bias = matrix(network)
    best = torch.linalg.lstsq(weight, (image.flatten(1) - bias).T).solution.T
    assert answer.read == ("code",)
    torch.testing.assert_close(answer["code"], best, rtol=1e-6, atol=1e-6)


def test_a_masked_image_is_completed_by_the_part_that_is_held() -> None:
    network = pair()
    image = torch.randn(5, 1, 2, 2, dtype=torch.float64)
    held = torch.tensor([[True, True], [True, False]])
    for free in ((), ("image",)):
        answer = pcg.query(network, {"image": image}, mask={"image": held}, free=free, steps=1500)
        weight, bias = matrix(network)
        best = torch.linalg.lstsq(weight[:3], (image.flatten(1) - bias)[:, :3].T).solution.T
        made = best @ weight.T + bias
        assert torch.equal(answer["image"][..., held], image[..., held])
        torch.testing.assert_close(answer["image"].flatten(1)[:, 3], made[:, 3], rtol=1e-6, atol=1e-6)
        assert answer.read == (("image",) if free else ("code", "image"))


def test_a_softly_held_image_is_the_best_estimate_under_its_noise() -> None:
    """The mean of the posterior: image = prediction of a held code + noise, seen with noise of its own."""
    network = pair()
    code, seen = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 1, 2, 2, dtype=torch.float64)
    answer = pcg.query(network, {"code": code, "image": seen}, soft={"image": 6.0})
    weight, bias = matrix(network)
    prediction = (code @ weight.T + bias).view_as(seen)
    torch.testing.assert_close(answer["image"], (2 * prediction + 6 * seen) / (2 + 6))
    assert answer.read == ("image",)
    assert set(answer.values) == {"code", "image"}


def test_a_free_node_that_is_given_starts_there() -> None:
    network = pair()
    code, start = torch.zeros(2, 3, dtype=torch.float64), torch.ones(2, 1, 2, 2, dtype=torch.float64)
    answer = pcg.query(network, {"code": code, "image": start}, free=["image"], steps=0)
    assert torch.equal(answer["image"], start)
    answer = pcg.query(network, {"code": code, "image": start}, free=["image"], steps=1)
    bias = matrix(network)[1].view(1, 2, 2)
    torch.testing.assert_close(answer["image"], start - 0.2 * 2 * (start - bias))


def test_what_does_not_move_is_read_from_its_predictions() -> None:
    network = pcg.build(pcg.parse_spec(LABELLED)).double()
    image = torch.randn(4, 4, dtype=torch.float64)
    answer = pcg.query(network, {"image": image}, free=["label"], steps=15)
    linear = network.predictors["hidden->label"]
    expected = linear(answer.values["hidden"]).softmax(dim=1).detach()
    torch.testing.assert_close(answer["label"], expected)
    assert not torch.allclose(answer["label"], answer.values["label"])  # zero, as at the start
    assert answer.resting == {"label"}
    assert answer.energy["hidden->label"].shape == (16, 4)


def test_one_value_is_given_to_all_of_a_batch() -> None:
    network = pair()
    code = torch.randn(1, 3, dtype=torch.float64)
    images = torch.randn(4, 1, 2, 2, dtype=torch.float64)
    one = pcg.query(network, {"code": code, "image": images}, soft={"image": 1.0}, steps=5)
    all_ = pcg.query(network, {"code": code.repeat(4, 1), "image": images}, soft={"image": 1.0}, steps=5)
    assert torch.equal(one["image"], all_["image"])


def test_the_query_leaves_the_network_as_it_was() -> None:
    network = pair()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    pcg.query(network, {"image": torch.zeros(1, 1, 2, 2)}, soft={"image": 2.0}, steps=2)
    assert list(network.graph.nodes) == ["code", "image"]
    assert list(network.predictors) == ["code->image"]
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


IMAGE, CODE = torch.zeros(2, 1, 2, 2), torch.zeros(2, 3)
HELD = torch.ones(2, 2, dtype=torch.bool)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({"clamp": {}}, "nothing is given"),
    "an unknown node": ({"clamp": {"imag": IMAGE}}, "clamp: there is no node 'imag'\n.*'image'"),
    "an unknown node to read": ({"clamp": {"image": IMAGE}, "free": ["cod"]}, "free: there is no node 'cod'"),
    "another shape": ({"clamp": {"image": CODE}}, r"given shape \(2, 3\); expected .*batch, 1, 2, 2"),
    "no tensor": ({"clamp": {"image": 3}}, "given int; expected a tensor"),
    "batches that differ": (
        {"clamp": {"image": IMAGE, "code": torch.zeros(3, 3)}, "soft": {"image": 1.0}},
        "batch",
    ),
    "nothing free": ({"clamp": {"image": IMAGE, "code": CODE}}, "nothing to read"),
    "a mask of nothing": (
        {"clamp": {"image": IMAGE}, "mask": {"code": HELD}},
        "mask: node 'code' is given no",
    ),
    "a mask that is no mask": ({"clamp": {"image": IMAGE}, "mask": {"image": HELD.float()}}, "torch.bool"),
    "both ways": (
        {"clamp": {"image": IMAGE}, "mask": {"image": HELD}, "soft": {"image": 1.0}},
        "soft and in mask",
    ),
    "no precision": ({"clamp": {"image": IMAGE}, "soft": {"image": 0.0}}, "precision 0.0; expected"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_query_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(pcg.InputError, match=message):
        pcg.query(pair(), **arguments)


def test_what_cannot_move_cannot_be_held_softly() -> None:
    network = pcg.build(pcg.parse_spec(LABELLED))
    with pytest.raises(pcg.InputError, match="'label' does not move"):
        pcg.query(network, {"label": torch.eye(3)}, soft={"label": 1.0})
