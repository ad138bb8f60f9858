"""Evaluations of a backbone that is random in eval mode: its draws belong to images, not to batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.datasets.noise import Noise
from pcgraph.evaluation import Attack, Condition, Measured, Noisy, Settings, evaluate
from pcgraph.evaluation.processes import Processes
from pcgraph.evaluation.store import Store
from tests.evaluation.conftest import SPEC, pictures
from tests.goldens.nets import chain

SETTINGS = Settings(steps=2, batch=4, seed=1, distances=True)
CONDITIONS: list[Condition] = [Noisy(Noise("gaussian", 1.0)), Attack("pgd", 0.1, 1, iterations=2)]


class Dropped(nn.Sequential):
    """The small network with Monte Carlo dropout."""

    def forward(self, x: Tensor) -> Tensor:
        for place, module in enumerate(self):
            x = F.dropout(module(x), 0.3, training=True) if place == 1 else module(x)
        return x


@pytest.fixture
def dropped() -> pcg.PCNetwork:
    torch.manual_seed(1)
    return pcg.build(pcg.parse_spec(SPEC), model=Dropped(*chain())).double()


def same(one: Measured, other: Measured) -> bool:
    return set(one) == set(other) and all(
        rows[what].equal(other[name][what]) for name, rows in one.items() for what in rows
    )


def test_processes_and_resumed_evaluations_draw_the_same(dropped: pcg.PCNetwork, tmp_path: Path) -> None:
    data = pictures(9)
    for name in ("two", "cut"):
        (tmp_path / name).mkdir()
    alone = evaluate(dropped, data, CONDITIONS, SETTINGS)

    class Apart(Processes):
        def wait(self) -> None:
            pass

    evaluate(dropped, data, CONDITIONS, SETTINGS, store=Store(tmp_path / "two"), processes=Apart(1, 2))
    both = evaluate(dropped, data, CONDITIONS, SETTINGS, store=Store(tmp_path / "two"), processes=Apart(0, 2))
    assert same(alone, both)

    def interrupt(number: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(dropped, data, CONDITIONS[1:], SETTINGS, store=Store(tmp_path / "cut"), advance=interrupt)
    store = Store(tmp_path / "cut")
    store.read()
    assert same(alone, evaluate(dropped, data, CONDITIONS, SETTINGS, store=store))


def test_any_batch_gives_the_same_numbers(dropped: pcg.PCNetwork) -> None:
    """In double precision, where convolutions of one image and of many round apart by 1e-15."""
    data = pictures(9)
    found = [evaluate(dropped, data, CONDITIONS[:1], Settings(2, size, 1, True)) for size in (9, 4, 1)]
    for other in found[1:]:
        for name, rows in found[0].items():
            for what, expected in rows.items():
                torch.testing.assert_close(other[name][what], expected, rtol=1e-5, atol=1e-6)
    seeds = evaluate(dropped, data, [], Settings(2, 9, 2, True))["clean:0"]["distance:e2"]
    losses = [run["clean:0"]["loss"] for run in (found[0], evaluate(dropped, data, [], Settings(2, 9, 2)))]
    assert not torch.allclose(*losses)
    assert seeds.shape == (3, 9)
