"""Bidirectional predictive coding against its energy written down once more, and left to autograd."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

import pcgraph as pcg
from pcgraph.files.shipped import shipped_spec
from pcgraph.learning import weight_gradients

RATE, STEPS = 0.1, 6
IMAGE = 0.1  # precision of the image's prediction


def energy(weights: dict[str, Tensor], x: dict[str, Tensor]) -> Tensor:
    """The errors of every edge, squared and halved; at the label the cross-entropy (Oliviers et al. 2025)."""

    def linear(edge: str, value: Tensor) -> Tensor:
        (weight,) = (w for name, w in weights.items() if edge in name and name.endswith("weight"))
        (bias,) = (b for name, b in weights.items() if edge in name and name.endswith("bias"))
        return F.linear(value, weight, bias)

    image = x["image"].flatten(1)
    up = [
        x["low"] - linear("image->low", image),
        x["high"] - linear("low->high", torch.tanh(x["low"])),
    ]
    down = [
        x["high"] - linear("label->high", x["label"]),
        x["low"] - linear("high->low", torch.tanh(x["high"])),
        IMAGE**0.5 * (image - linear("low->image", torch.tanh(x["low"]))),
    ]
    logits = linear("high->label", torch.tanh(x["high"]))
    return sum(e.square().sum() for e in up + down) / 2 + F.cross_entropy(logits, x["label"], reduction="sum")


def test_states_and_weights_follow_the_energy_of_both_directions() -> None:
    network = pcg.build(shipped_spec("pc_bidirectional"), seed=3).double()
    weights = {name: value.detach().clone() for name, value in network.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    clamp = {
        "image": torch.rand(4, 1, 28, 28, generator=generator).double(),
        "label": torch.eye(10)[:4].double(),
    }
    x = {
        name: value.detach().clone()
        for name, value in pcg.Scheduler(network).start(clamp=clamp).values.items()
    }
    for _ in range(STEPS):
        moving = {name: x[name].requires_grad_() for name in ("low", "high")}
        slopes = torch.autograd.grad(energy(weights, x), list(moving.values()))
        for (name, value), slope in zip(moving.items(), slopes, strict=True):
            x[name] = (value - RATE * slope).detach()
    run = pcg.Scheduler(network).run(clamp=clamp, steps=STEPS, record=[])
    for name, value in x.items():
        torch.testing.assert_close(run.state.values[name], value, rtol=1e-10, atol=1e-12)

    leaves = {name: value.requires_grad_() for name, value in weights.items()}
    wanted = torch.autograd.grad(energy(leaves, x) / 4, list(leaves.values()))
    found = weight_gradients(network, clamp, rule="il", steps=STEPS)
    assert len(found) == 12
    for name, slope in zip(leaves, wanted, strict=True):
        assert slope.abs().max() > 0
        torch.testing.assert_close(found[name], slope, rtol=1e-10, atol=1e-12)


def test_it_starts_from_either_end() -> None:
    """Given the image it starts as a classifier does; given the label it settles into an image."""
    network = pcg.build(shipped_spec("pc_bidirectional"))
    image = torch.rand(2, 1, 28, 28)
    start = pcg.Scheduler(network).start(image).values
    low = network.predictors["image->low"](image)
    high = network.predictors["low->high"](low)
    torch.testing.assert_close(start["label"], network.predictors["high->label"](high).softmax(dim=1))
    before, after = (
        pcg.query(network, {"label": torch.eye(10)}, free=["image"], steps=steps) for steps in (0, 60)
    )
    total = [float(sum(energy[-1].sum() for energy in answer.energy.values())) for answer in (before, after)]
    assert total[1] < 0.9 * total[0]
    assert not torch.equal(before["image"], after["image"])
