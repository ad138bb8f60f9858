"""Attacks, against the same written out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import pcgraph as pcg
from pcgraph.errors import InputError
from pcgraph.evaluation.attacks import Attack, AttackedStep, parse_attack, target_classes
from tests.evaluation.conftest import PREPROCESS


def pixels(count: int = 6) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(2))


def normalised(values: Tensor) -> Tensor:
    mean, std = (torch.tensor(s, dtype=values.dtype).view(3, 1, 1) for s in (PREPROCESS.mean, PREPROCESS.std))
    return (values - mean) / std


def by_hand(
    network: pcg.PCNetwork, step: int, x0: Tensor, labels: Tensor, eps: float, n: int, sign: int
) -> Tensor:
    """Signed gradient steps of 2.5 eps / n, each clipped to the ball and to the pixels' range."""
    scheduler = pcg.Scheduler(network)
    x = x0.clone()
    for _ in range(n):
        x = x.detach().requires_grad_()
        run = scheduler.run(normalised(x), step, record=["output"], differentiable=True)
        loss = F.cross_entropy(run.output[step], labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        x = x.detach() + sign * 2.5 / n * eps * gradient.sign()
        x = torch.minimum(torch.maximum(x, x0 - eps), x0 + eps).clamp(0, 1)
    return x


@pytest.mark.parametrize("step", [0, 2])
@pytest.mark.parametrize("targeted", [False, True])
def test_bim_is_the_one_written_by_hand(network: pcg.PCNetwork, step: int, targeted: bool) -> None:
    labels = torch.arange(6)
    model = AttackedStep(pcg.Scheduler(network), step, PREPROCESS)
    attack = Attack("bim", 0.03, step, iterations=5, targeted=targeted)
    found = attack.adversarial(model, pixels(), labels, [0] * 6)
    aims = (labels + 8) % 10 if targeted else labels
    expected = by_hand(network, step, pixels(), aims, 0.03, 5, -1 if targeted else 1)
    same = (found - expected).abs() < 1e-6
    assert same.float().mean() > 0.999  # the sign of a gradient that is all but zero may turn
    assert (found - pixels()).abs().max() <= 0.03 + 1e-6
    assert (found - pixels()).abs().max() > 0.029


def test_the_gradient_goes_through_the_dynamics(network: pcg.PCNetwork) -> None:
    """Against finite differences in float64, along random directions; first order leaves something out."""
    network = network.double()
    scheduler = pcg.Scheduler(network)
    x = pixels(2).double()
    labels = torch.tensor([1, 4])

    def loss(values: Tensor, model: AttackedStep) -> Tensor:
        return F.cross_entropy(model(values), labels, reduction="sum")

    model = AttackedStep(scheduler, 3, PREPROCESS)
    gradients = {}
    for name, one in {
        "full": model,
        "checkpoint": AttackedStep(scheduler, 3, PREPROCESS, checkpoint=True),
        "first": AttackedStep(scheduler, 3, PREPROCESS, "first_order"),
    }.items():
        given = x.clone().requires_grad_()
        (gradients[name],) = torch.autograd.grad(loss(given, one), given)
    for number in range(3):
        generator = torch.Generator().manual_seed(number)
        direction = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        h = 1e-6
        slope = (loss(x + h * direction, model) - loss(x - h * direction, model)) / (2 * h)
        assert (gradients["full"] * direction).sum().item() == pytest.approx(slope.item(), rel=1e-4)
    assert torch.allclose(gradients["checkpoint"], gradients["full"], rtol=1e-9, atol=1e-12)
    assert not torch.allclose(gradients["first"], gradients["full"], rtol=1e-3)


def test_without_gradients_it_answers_as_the_run_does(network: pcg.PCNetwork) -> None:
    scheduler = pcg.Scheduler(network)
    run = scheduler.run(normalised(pixels()), 3, record=["output"])
    for step in range(4):
        answer = AttackedStep(scheduler, step, PREPROCESS)(pixels())
        assert torch.allclose(answer, run.output[step], atol=1e-5)
        assert not answer.requires_grad


def test_random_starts_belong_to_the_image(network: pcg.PCNetwork) -> None:
    model = AttackedStep(pcg.Scheduler(network), 1, PREPROCESS)
    attack = Attack("pgd", 0.05, 1, iterations=5)
    labels = torch.arange(6)
    together = attack.adversarial(model, pixels(), labels, list(range(6)))
    parts = [attack.adversarial(model, pixels()[i : i + 1], labels[i : i + 1], [i]) for i in range(6)]
    assert ((together - torch.cat(parts)).abs() < 1e-6).float().mean() > 0.999
    others = attack.adversarial(model, pixels(), labels, list(range(10, 16)))
    assert ((together - others).abs() > 1e-3).float().mean() > 0.1
    assert (together - pixels()).abs().max() <= 0.05 + 1e-6


def test_attacks_succeed_and_leave_no_gradients_behind(network: pcg.PCNetwork) -> None:
    model = AttackedStep(pcg.Scheduler(network), 2, PREPROCESS)
    answers = model(pixels()).argmax(dim=1)
    untargeted = Attack("pgd", 0.5, 2).adversarial(model, pixels(), answers, [0] * 6)
    assert (model(untargeted).argmax(dim=1) != answers).all()
    targeted = Attack("bim", 0.5, 2, targeted=True).adversarial(model, pixels(), answers, [0] * 6)
    assert model(targeted).argmax(dim=1).tolist() == target_classes(answers, 10).tolist()
    assert all(parameter.grad is None for parameter in network.parameters())


def test_targets_are_those_of_the_published_study() -> None:
    assert target_classes(torch.tensor([0, 150, 999]), 1000).tolist() == [800, 950, 799]
    for classes in (2, 3, 10):
        assert (target_classes(torch.arange(classes), classes) != torch.arange(classes)).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fgsm:0.1", "unknown kind 'fgsm'"),
        ("pgd", "expected numbers"),
        ("pgd:0", "epsilon is 0, expected a number above 0 and up to 1"),
        ("pgd:8", "8/255 is 0.0314"),
    ],
)
def test_faults(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_attack(text, [1], 20, False)


def test_parsing() -> None:
    found = parse_attack("pgd:0.1,0.2", [0, 4], 7, True)
    assert [(a.noise, a.level, a.iterations) for a in found] == [
        *[("pgd-targeted@0", 0.1, 7), ("pgd-targeted@4", 0.1, 7)],
        *[("pgd-targeted@0", 0.2, 7), ("pgd-targeted@4", 0.2, 7)],
    ]
