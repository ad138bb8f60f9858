"""The fastest way to train is found at the first batch, changes nothing but time, and is known afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import pcgraph as pcg
from pcgraph.acceleration import Measured, Variant
from pcgraph.acceleration.trial import Trial
from pcgraph.acceleration.ways import is_channels_last
from pcgraph.errors import PCGraphWarning
from pcgraph.learning import DynamicsTask, make_task, with_noise
from pcgraph.network import PCNetwork
from pcgraph.spec import Train, Tune
from pcgraph.spec.training import Fitting
from pcgraph.training import Task, fit
from pcgraph.training import fastest as module
from pcgraph.training.batch_step import BatchStep
from tests.training.nets import SPEC, images, network, weights

LAST, FIRST = "channels-last", "as it is"
DROPS = [
    {"Conv2d": {"kernel_size": 3, "padding": 1}},
    "BatchNorm2d",
    {"Dropout": {"p": 0.5}},
    {"Upsample": {}},
]
ENERGY = """
name: energy
nodes: {image: {shape: [1, 12, 12]}, hidden: {shape: [3, 6, 6]}, label: {shape: [10]}}
edges:
  - {source: image, target: hidden, predictor: [{Conv2d: {kernel_size: 3, stride: 2, padding: 1}}, Tanh]}
  - {source: hidden, target: label, predictor: [Flatten, Linear]}
dynamics: {rule: energy, rate: 0.1}
schedule: {steps: 2}
"""
DENSE = """
name: dense
nodes: {image: {shape: [1, 12, 12]}, hidden: {shape: [4]}, label: {shape: [10]}}
edges:
  - {source: image, target: hidden, predictor: [Flatten, Linear, Tanh]}
  - {source: hidden, target: label, predictor: [Linear]}
dynamics: {rule: energy, rate: 0.1}
schedule: {steps: 1}
"""


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What measurements find, by a part of a way's name, so that the machine has no say."""
    found: dict[str, float] = {}

    def seconds(trial: Trial[Variant], way: Variant) -> float:
        return min((value for name, value in found.items() if name in str(way)), default=1.0)

    monkeypatch.setattr(Trial, "_seconds", seconds)
    return found


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCGRAPH_CACHE", str(tmp_path / "cache"))


def reconstruct(net: PCNetwork) -> tuple[Task, Fitting]:
    settings = Train(epochs=1, batch=8)
    return make_task(net, settings), settings


def through_time(net: PCNetwork) -> tuple[Task, Fitting]:
    settings = Train(epochs=1, batch=8, task="through_time")
    return make_task(net, settings), settings


def in_parts(net: PCNetwork) -> tuple[Task, Fitting]:
    settings = Train(epochs=1, batch=8, accumulate=3)
    return make_task(net, settings), settings


def by_energy(rule: Any) -> Callable[[PCNetwork], tuple[Task, Fitting]]:
    def made(net: PCNetwork) -> tuple[Task, Fitting]:
        settings = Train(epochs=1, batch=8, rule=rule)
        return make_task(net, settings), settings

    return made


def tuned(net: PCNetwork) -> tuple[Task, Fitting]:
    settings = Tune.model_validate({"epochs": 1, "batch": 8, "steps": [1, 3], "noise": {"gaussian": [0, 1]}})
    return DynamicsTask(net, settings), settings


KINDS: dict[str, tuple[str, Callable[[PCNetwork], tuple[Task, Fitting]]]] = {
    "reconstruct": (SPEC, reconstruct),
    "in parts": (SPEC, in_parts),
    "through time": (SPEC, through_time),
    "il": (ENERGY, by_energy("il")),
    "ipc": (ENERGY, by_energy("ipc")),
    "tune": (SPEC, tuned),
}
Told = list[Measured]


def trained(kind: str, folder: Path, *, spec: str = "", **how: Any) -> tuple[Tensor, Told, PCNetwork]:
    """What was learned, by whom, and what was said of the fastest way."""
    text, make = KINDS[kind]
    net = network(spec or text)
    task, settings = make(net)
    data, told = images(net, 16), Told()
    if kind == "tune":
        data = with_noise(data, settings.noise)  # type: ignore[attr-defined]
    fit(task, data, settings, folder, device="cpu", trackers=[], on_fastest=told.append, **how)
    if isinstance(task, DynamicsTask):
        return torch.cat([one.detach().reshape(-1) for one in task.dynamics.parameters()]), told, net
    return weights(net), told, net


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS)
def test_another_way_learns_the_same_up_to_rounding(
    kind: str, times: dict[str, float], tmp_path: Path
) -> None:
    times[LAST] = 0.5
    plain, none, _ = trained(kind, tmp_path / "plain")
    fast, (found,), net = trained(kind, tmp_path / "fast", fast=True)
    assert not none
    assert LAST in str(found.chosen)
    assert not is_channels_last(net)  # it is handed back as it was
    torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-5)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["ipc", "tune"])
def test_measuring_changes_nothing(kind: str, times: dict[str, float], tmp_path: Path) -> None:
    times[LAST] = 2.0
    plain, *_ = trained(kind, tmp_path / "plain")
    fast, (found,), _ = trained(kind, tmp_path / "fast", fast=True)
    assert FIRST in str(found.chosen)
    assert len(found.variants) == 2
    assert torch.equal(fast, plain)


def test_what_is_drawn_and_running_means_stay_the_same(times: dict[str, float], tmp_path: Path) -> None:
    times[LAST] = 0.5
    text = SPEC.replace("feedback: chain", f"feedback: [{{source: e2, target: e1, predictor: {DROPS}}}]")
    _, _, plain = trained("reconstruct", tmp_path / "plain", spec=text)
    _, (found,), fast = trained("reconstruct", tmp_path / "fast", spec=text, fast=True)
    assert len(found.variants) == 1  # dropout draws other numbers channels-last: not the same, and not taken
    for name, value in plain.state_dict().items():
        assert torch.equal(fast.state_dict()[name], value), name


def test_so_many_threads_compute_as_were_chosen(
    two_threads: None, times: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, step = [], BatchStep.__call__

    def watched(self: BatchStep, *given: Any) -> Any:
        seen.append(torch.get_num_threads())
        return step(self, *given)

    monkeypatch.setattr(BatchStep, "__call__", watched)
    times["2 threads"] = 0.5
    trained("il", tmp_path / "small", fast=True)
    assert seen == [2] * 2
    times["1 thread"] = 0.2
    trained("reconstruct", tmp_path / "other", fast=True)
    assert seen[2:] == [1] * 2
    assert torch.get_num_threads() == 2


def test_a_way_with_other_gradients_is_not_taken(
    times: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times[LAST] = 0.1
    rehearse = BatchStep.rehearse

    def wrong(self: BatchStep, *given: Any) -> dict[str, Tensor]:
        factor = 1.01 if is_channels_last(self.task.network) else 1.0
        return {name: one * factor for name, one in rehearse(self, *given).items()}

    monkeypatch.setattr(BatchStep, "rehearse", wrong)
    _, (found,), _ = trained("reconstruct", tmp_path, fast=True)
    assert LAST not in str(found)


def test_a_way_that_cannot_be_had_is_not_taken(
    times: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times[LAST] = 0.1
    rehearse = BatchStep.rehearse

    def strict(self: BatchStep, *given: Any) -> dict[str, Tensor]:
        if is_channels_last(self.task.network):
            torch.zeros(2, 3).T.view(6)  # torch refuses
        return rehearse(self, *given)

    monkeypatch.setattr(BatchStep, "rehearse", strict)
    _, (found,), _ = trained("reconstruct", tmp_path, fast=True)
    assert LAST not in str(found)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["il", "tune"])
def test_a_later_training_measures_nothing(
    kind: str, times: dict[str, float], tmp_path: Path, kept: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    times[LAST] = 0.5
    first, (measured,), _ = trained(kind, tmp_path / "first", fast=True)
    monkeypatch.setattr(module, "Trial", None)
    again, (recalled,), _ = trained(kind, tmp_path / "again", fast=True, seed=1 if kind == "il" else 0)
    assert (recalled.recalled, recalled.chosen) == (True, measured.chosen)
    assert torch.equal(first, again) is (kind != "il")  # which had another seed


@pytest.mark.heavy
def test_what_goes_on_keeps_its_way(
    times: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times[LAST] = 0.5
    whole, *_ = trained("through time", tmp_path / "whole", fast=True)
    done: list[int] = []
    stop = {"stop": lambda: len(done) == 1, "on_step": lambda *_: done.append(1)}
    trained("through time", tmp_path / "parts", fast=True, **stop)
    with pytest.raises(pcg.InputError, match="another training is in this folder: it differs in fast"):
        trained("through time", tmp_path / "parts", resume=True)
    monkeypatch.setattr(module, "Trial", None)
    parts, told, _ = trained("through time", tmp_path / "parts", fast=True, resume=True)
    assert not told
    assert torch.equal(parts, whole)
    trained("il", tmp_path / "plain")
    with pytest.raises(pcg.InputError, match="it differs in fast"):
        trained("il", tmp_path / "plain", fast=True, resume=True)


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(pcg.InputError, match="looked for by one process, and there are several"):
        trained("reconstruct", tmp_path, fast=True)


def test_what_cannot_be_compiled_is_not_measured_as_compiled(
    times: dict[str, float], tmp_path: Path, kept: None, no_compiler: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    times["compiled"] = 0.1
    monkeypatch.setattr(module, "COMPILING", 0.5)
    with pytest.warns(PCGraphWarning, match="learning is not compiled: there is none"):
        _, (found,), _ = trained("il", tmp_path, spec=DENSE, fast=True)
    assert not any(way.compiled for way in found.variants)


@pytest.mark.heavy
def test_compiling_is_tried_where_it_can_pay_off(
    times: dict[str, float], tmp_path: Path, kept: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    times["compiled"] = 0.1
    plain, *_ = trained("il", tmp_path / "plain", spec=DENSE)
    _, (short,), _ = trained("il", tmp_path / "short", spec=DENSE, fast=True)  # two batches of a second
    assert len(short.variants) == 1
    monkeypatch.setattr(module, "COMPILING", 0.5)
    fast, (found,), _ = trained("il", tmp_path / "fast", spec=DENSE, fast=True)
    assert found.chosen.compiled
    assert not found.recalled
    torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-5)
    again, (recalled,), _ = trained("il", tmp_path / "again", spec=DENSE, fast=True)
    assert recalled.recalled
    assert torch.equal(again, fast)
