"""Labels in another order are told; networks that are bad, untrained or merely uncertain are not blamed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.datasets import digits, open_data
from pcgraph.evaluation.permuted import permuted, permuted_data

FEW = torch.Generator().manual_seed(3)


def answered(labels: Tensor, classes: int, right: float) -> Tensor:
    """Answers that are right for a share of the images, and random for the others."""
    random = torch.randint(classes, labels.shape, generator=FEW)
    return torch.where(torch.rand(labels.shape, generator=FEW) < right, labels, random)


@pytest.mark.parametrize(("classes", "each"), [(10, 20), (3, 30), (100, 10), (1000, 10), (2, 100)])
def test_any_other_order_is_told(classes: int, each: int) -> None:
    """Reversed, in the order of text, or turned by one."""
    labels = torch.arange(classes).repeat_interleave(each)
    answers = answered(labels, classes, 0.97)
    text = torch.tensor([int(name) for name in sorted(map(str, range(classes)))])
    for order in (torch.arange(classes).flip(0), text, torch.arange(classes).roll(1)):
        found = permuted(answers, order[labels])
        if order.equal(torch.arange(classes)):
            assert found is None
            continue
        assert found is not None
        right = float((answers == order[labels]).double().mean())
        assert math.isclose(found.accuracy, right)
        assert math.isclose(found.agreement, float((answers == labels).double().mean()), abs_tol=0.06)
    assert permuted(answers, labels) is None


def test_the_order_of_the_images_does_not_matter() -> None:
    labels = torch.arange(2).repeat(60)
    for order in (torch.arange(120), torch.randperm(120, generator=FEW), labels.argsort()):
        assert permuted(1 - labels[order], labels[order]) is not None
        assert permuted(labels[order], labels[order]) is None


def test_some_classes_in_another_order() -> None:
    labels = torch.arange(10).repeat_interleave(40)
    answers = answered(labels, 10, 0.95)
    order = torch.tensor([0, 1, 2, 3, 5, 4, 7, 6, 8, 9])
    assert permuted(answers, order[labels]) is not None


@pytest.mark.parametrize("right", [0.0, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("classes", [2, 10, 300])
def test_answers_that_are_merely_bad(classes: int, right: float) -> None:
    labels = torch.randint(classes, (600,), generator=FEW)
    assert permuted(answered(labels, classes, right), labels) is None


def test_answers_of_one_class_and_no_answers() -> None:
    labels = torch.arange(10).repeat(20)
    assert permuted(torch.full((200,), 3), labels) is None
    assert permuted(torch.full((200,), -1), labels) is None
    assert permuted((labels + 1) % 10, torch.full((200,), -1)) is None
    assert permuted((labels + 1)[:10] % 10, labels[:10]) is None
    assert permuted(torch.full((200,), 3), torch.full((200,), 4)) is None


@pytest.mark.parametrize("classes", [list(range(10)), [0, 1], [3, 8], [1, 7, 4]])
def test_untrained_networks(classes: list[int]) -> None:
    """Their features tell digits apart to some degree, which is no order of labels."""
    data = digits()
    chosen = torch.isin(data.test_labels, torch.tensor(classes))
    images = data.test_images[chosen]
    labels = torch.tensor([classes.index(label) for label in data.test_labels[chosen].tolist()])
    for seed in range(12):
        torch.manual_seed(seed)
        for net in (
            nn.Sequential(nn.Flatten(), nn.Linear(784, len(classes))),
            nn.Sequential(nn.Conv2d(1, 8, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(1152, len(classes))),
        ):
            with torch.no_grad():
                assert permuted(net(images).argmax(dim=1), labels) is None


def test_of_a_network() -> None:
    network = pcg.build("digits")
    shape = (1, 28, 28)
    order = ["9", "8", "7", "6", "5", "4", "3", "2", "1", "0"]
    assert permuted_data(network, open_data("digits", "train", shape=shape)) is None
    found = permuted_data(network, open_data("digits", "train", shape=shape, classes=order))
    assert found is not None
    assert found.agreement > 0.9
    spec = network.spec
    assert spec.backbone is not None
    network.spec = spec.model_copy(update={"backbone": spec.backbone.model_copy(update={"weights": None})})
    assert permuted_data(network, open_data("digits", "train", shape=shape, classes=order)) is None
