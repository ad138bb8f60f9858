"""Small layers are computed on one thread, large ones on all, and what was set before comes back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import pcgraph as pcg
from pcgraph.learning import learn
from pcgraph.training.threads import SMALL, fitting_threads, largest_layer
from tests.nets import residual

pytestmark = pytest.mark.usefixtures("two_threads")


def network(source: list[int], target: list[int], predictor: list[Any]) -> pcg.PCNetwork:
    spec = {
        "name": "pair",
        "nodes": {"a": {"shape": source}, "b": {"shape": target}},
        "edges": [{"source": "a", "target": "b", "predictor": predictor}],
        "dynamics": {"rule": "energy", "rate": 0.1},
    }
    return pcg.build(pcg.parse_spec(spec))


CONV = {"Conv2d": {"kernel_size": 3, "padding": 1}}


@pytest.mark.parametrize(
    ("source", "target", "predictor", "multiplications"),
    [
        ([7], [5], ["Linear"], 7 * 5),
        ([2, 3, 4], [5], ["Flatten", "Linear", "Tanh"], 24 * 5),
        ([6, 7], [6, 5], ["Linear"], 6 * 7 * 5),  # six tokens
        ([2, 8, 6], [3, 8, 6], [CONV, "ReLU"], 2 * 3 * 9 * 48),
    ],
)
def test_multiplications_are_counted(
    source: list[int], target: list[int], predictor: list[Any], multiplications: int
) -> None:
    assert largest_layer(network(source, target, predictor)) == multiplications


def test_the_size_of_the_work_decides() -> None:
    pair = network([64], [32], ["Linear"])
    most = SMALL // (64 * 32)
    for images, threads in ((most, 1), (most + 1, 2)):
        with fitting_threads(pair)(images):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == 2


@pytest.mark.heavy
def test_a_backbone_keeps_its_threads() -> None:
    with fitting_threads(residual())(1):
        assert torch.get_num_threads() == 2


def test_faults_and_pauses_bring_them_back() -> None:
    pair = network([4], [3], ["Linear"])
    with pytest.raises(ZeroDivisionError), fitting_threads(pair)(1):
        raise ZeroDivisionError
    assert torch.get_num_threads() == 2
    during: list[int] = []
    pair.predictors["a->b"].register_forward_hook(lambda *_: during.append(torch.get_num_threads()))
    clamp = {"a": torch.rand(2, 4), "b": torch.rand(2, 3)}
    for _ in learn(pair, [clamp] * 2, torch.optim.SGD(pair.parameters(), lr=0.1), steps=1):
        assert torch.get_num_threads() == 2
    assert set(during) == {1}
