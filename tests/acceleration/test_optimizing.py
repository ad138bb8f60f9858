"""The fastest way is found, changes nothing but the time, and is known afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import pcgraph as pcg
from pcgraph.acceleration import TiledConvTranspose2d
from pcgraph.acceleration import optimizing as module
from pcgraph.acceleration.trial import Trial
from pcgraph.errors import PCGraphWarning
from tests.acceleration.test_choose import image, network, tiles_are_fast  # noqa: F401
from tests.nets import residual

Times = dict[str, float]
"""Seconds of a step, by what a network is like; see `name_of`."""


def name_of(scheduler: pcg.Scheduler) -> str:
    """How a network is run: ``compiled``, or layout and tiles."""
    if scheduler._stepper.compiler is not None:
        return "compiled"
    layers = [one for one in scheduler.network.modules() if isinstance(one, TiledConvTranspose2d)]
    maps = [weight for weight in scheduler.network.parameters() if weight.dim() == 4]
    last = all(weight.is_contiguous(memory_format=torch.channels_last) for weight in maps)
    return ("tiles, " if any(layer.tiles for layer in layers) else "") + ("last" if last else "first")


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    """What measurements find, so that the machine has no say; all that is not in it is slow."""
    found: Times = {}
    monkeypatch.setattr(Trial, "_seconds", lambda trial, scheduler: found.get(name_of(scheduler), 1.0))
    return found


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PCGRAPH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_steps_that_cannot_be_compiled_are_not_measured_as_compiled(
    times: Times, kept: Path, no_compiler: None
) -> None:
    times.update({"compiled": 0.1})
    with pytest.warns(PCGraphWarning, match="steps are not compiled: there is none"):
        found = residual().optimize(images(), steps=10_000)
    assert not any(way.compiled for way in found.variants)
    assert name_of(found.scheduler) == "first"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [({"last": 0.5}, "last"), ({"last": 0.99}, "first"), ({"last": 2.0}, "first"), ({}, "first")],
)
def test_the_faster_layout_is_taken(times: Times, seconds: Times, expected: str) -> None:
    times.update(seconds)
    net = residual()
    plain = pcg.Scheduler(residual()).run(images(), steps=4)
    found = net.optimize(images(), steps=10)
    assert name_of(found.scheduler) == expected
    assert found.scheduler.network is net
    assert [variant.seconds for variant in found.variants] == [1.0, seconds.get("last", 1.0)]
    assert found.chosen.seconds == min(1.0, seconds.get("last", 1.0) if expected == "last" else 1.0)
    torch.testing.assert_close(found.scheduler.run(images(), steps=4).output[4], plain.output[4])


def test_a_network_that_is_channels_last_stays_so_unless_rows_are_faster(times: Times) -> None:
    times.update({"last": 0.8, "first": 0.7})
    net = residual().to(memory_format=torch.channels_last)
    assert name_of(net.optimize(images(), steps=10).scheduler) == "first"
    times["first"] = 0.79
    net = residual().to(memory_format=torch.channels_last)
    assert name_of(net.optimize(images(), steps=10).scheduler) == "last"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"tiles, first": 0.5}, "tiles, first"),
        ({"tiles, first": 0.5, "tiles, last": 0.2}, "tiles, last"),
        ({"tiles, first": 0.99, "last": 0.5}, "last"),
        ({"tiles, first": 2.0}, "first"),
    ],
)
def test_large_kernels(times: Times, seconds: Times, expected: str, tiles_are_fast: None) -> None:  # noqa: F811
    times.update(seconds)
    net = network()
    plain = pcg.Scheduler(network()).run(image(), 5).state.values
    found = net.optimize(image(), steps=10)
    assert name_of(found.scheduler) == expected
    for name, value in found.scheduler.run(image(), 5).state.values.items():
        torch.testing.assert_close(value, plain[name], rtol=1e-4, atol=1e-4)


def test_weights_that_learn_have_no_tiles(times: Times) -> None:
    times["tiles, first"] = 0.1
    found = network(frozen=False).optimize(image(), steps=10)
    assert name_of(found.scheduler) == "first"
    assert [str(variant) for variant in found.variants] == ["as it is 1e+03 ms", "channels-last 1e+03 ms"]


def test_a_way_that_makes_other_states_is_not_taken(times: Times, monkeypatch: pytest.MonkeyPatch) -> None:
    times["last"] = 0.1
    run = module._run

    def wrong(scheduler: pcg.Scheduler, steps: int, how: Any) -> dict[str, Tensor]:
        shift = 0.01 if name_of(scheduler) == "last" else 0.0
        return {name: value + shift * value.abs().max() for name, value in run(scheduler, steps, how).items()}

    monkeypatch.setattr(module, "_run", wrong)
    found = residual().optimize(images(), steps=10)
    assert name_of(found.scheduler) == "first"
    assert len(found.variants) == 1


def test_compiling_is_tried_where_it_can_pay_off(times: Times, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr("pcgraph.scheduler.find_compiler", lambda network, options: tried.append(network))
    residual().optimize(images(), steps=100)  # of one second
    residual().optimize(images())  # nothing is kept in the tests, unless they ask for it
    assert not tried
    residual().optimize(images(), steps=200)
    assert len(tried) == 1


def test_steps_are_compiled_with_the_tiles_that_were_chosen(
    times: Times,
    tiles_are_fast: None,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times.update({"tiles, first": 0.5, "tiles, last": 0.9})
    compiling: list[bool] = []

    def find(network: pcg.PCNetwork, options: object) -> None:
        compiling.append(name_of(pcg.Scheduler(network)) == "tiles, last")
        times["tiles, last"] = 0.1

    monkeypatch.setattr("pcgraph.scheduler.find_compiler", find)
    found = network().optimize(image(), steps=1000)
    assert compiling == [True]
    assert (found.chosen.compiled, len(found.chosen.tiles)) == (True, 2)
    assert str(found.chosen) == "tiles, compiled 100 ms"
    slow = network().optimize(image(), steps=1)
    assert (slow.chosen.compiled, len(slow.chosen.tiles)) == (False, 2)


@pytest.mark.slow
def test_a_later_process_measures_nothing(times: Times, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times["compiled"] = 0.2
    first = residual().requires_grad_(False).optimize(images())
    assert name_of(first.scheduler) == "compiled"
    assert "paid off after" in str(first)
    monkeypatch.setattr(module, "Trial", None)
    again = residual().requires_grad_(False).optimize(images())
    assert (again.recalled, again.chosen, again.variants) == (True, first.chosen, first.variants)
    assert name_of(again.scheduler) == "compiled"
    assert "by an earlier process" in str(again)
    plain = pcg.Scheduler(residual()).run(images(), steps=4).output[4]
    torch.testing.assert_close(again.scheduler.run(images(), steps=4).output[4], plain, rtol=1e-4, atol=1e-5)


def test_tiles_are_recalled(
    times: Times,
    kept: Path,
    tiles_are_fast: None,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times["tiles, first"] = 0.2
    first = network().optimize(image(), steps=1)
    monkeypatch.setattr(module, "Trial", None)
    again = network().optimize(image(), steps=1)
    assert again.chosen == first.chosen
    assert [layer for layer, _, _ in again.chosen.tiles] == ["b->a.0", "c->b.0"]
    assert name_of(again.scheduler) == "tiles, first"


@pytest.mark.heavy
def test_another_network_another_batch_and_another_type_are_measured(times: Times, kept: Path) -> None:
    assert not residual().optimize(images(), steps=1).recalled
    assert residual().optimize(images(), steps=1).recalled
    assert residual().optimize(images() + 1, steps=1).recalled
    assert not residual().optimize(images(3), steps=1).recalled
    assert not residual("momentum", "synchronous").optimize(images(), steps=1).recalled
    assert not residual().double().optimize(images().double(), steps=1).recalled
    with torch.autocast("cpu", torch.bfloat16):
        assert not residual().optimize(images(), steps=1).recalled


def test_negative_steps() -> None:
    with pytest.raises(pcg.InputError, match="steps=-1; expected 0 or more"):
        residual().optimize(images(), steps=-1)
