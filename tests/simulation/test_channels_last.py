"""Runs whose maps lie channels-last without being asked, against the direct computation in float64."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import pcgraph as pcg

RECORD = ["output", "values", "predictions", "errors", "energy", "gradients"]


class Depthwise(nn.Module):
    """Two blocks as MobileNet has them, and a head."""

    def __init__(self, groups: int = 8, view: bool = False) -> None:
        super().__init__()
        self.view = view
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.SiLU())
        self.first = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=groups), nn.BatchNorm2d(8), nn.Hardswish())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 5, 2, 2, groups=groups), nn.ReLU6())
        self.head = nn.Linear(8 * 4 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.first(x)
        x = self.second(x)
        result: Tensor = self.head(x.view(len(x), -1) if self.view else torch.flatten(x, 1))
        return result


def network(model: Depthwise | None = None, **extra: object) -> pcg.PCNetwork:
    spec = {
        "name": "depthwise",
        "backbone": {"model": "torchvision:vgg16", "weights": None, "input": [3, 16, 16]},
        "nodes": {"e1": {"module": "stem"}, "e2": {"module": "first"}, "e3": {"module": "second"}},
        "feedback": "chain",
        "dynamics": {"rule": "predify", "error": 0.1},
        **extra,
    }
    torch.manual_seed(0)
    return pcg.build(pcg.parse_spec(spec), model=Depthwise() if model is None else model)


@pytest.fixture(scope="module")
def plain() -> pcg.PCNetwork:
    return network()


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def layouts(
    net: pcg.PCNetwork, scheduler: pcg.Scheduler, given: Tensor, steps: int, **how: object
) -> list[bool]:
    """Whether the maps that the second block is given are channels-last, call by call."""
    seen: list[bool] = []
    assert net.drive is not None
    block = net.drive.model.get_submodule("second.0")

    def look(_: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append(not inputs[0].is_contiguous())

    handle = block.register_forward_pre_hook(look)
    scheduler.run(given, steps, record=[], **how)  # type: ignore[arg-type]
    handle.remove()
    return seen


@pytest.mark.parametrize("extra", [{}, {"schedule": {"order": "sweep"}, "feedback": "dense"}])
def test_all_that_is_seen_is_as_without(extra: dict[str, object]) -> None:
    net, given = network(**extra), images()
    got = pcg.Scheduler(net).run(given, 6, record=RECORD)
    direct = pcg.Scheduler(net, direct=True).run(given, 6, record=RECORD)
    expected = pcg.Scheduler(copy.deepcopy(net).double()).run(given.double(), 6, record=RECORD)
    assert torch.equal(got.output[0], net.drive.model(given))  # type: ignore[union-attr]
    assert torch.equal(got.output[1], direct.output[1])
    for quantity in RECORD:
        series = {"output": got.output} if quantity == "output" else getattr(got, quantity)
        right = {"output": expected.output} if quantity == "output" else getattr(expected, quantity)
        for name, values in right.items():
            for one, other in zip(series[name], values, strict=True):
                assert one.is_contiguous()
                atol = 1e-5 * float(other.abs().max())
                torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=atol)
    assert type(got.state.values) is type(direct.state.values)
    for name, value in direct.state.values.items():
        assert got.state.values[name].stride() == value.stride()
        assert torch.equal(got.state.values[name], got.values[name][-1])
    assert got.state.values["input"].data_ptr() == given.data_ptr()
    assert torch.equal(pcg.Scheduler(net).readout(got.state), got.output[-1])
    with torch.no_grad():
        assert torch.equal(net(given, steps=6), got.output[-1])


def test_states_lie_channels_last_from_the_second_step_on(plain: pcg.PCNetwork) -> None:
    assert layouts(plain, pcg.Scheduler(plain), images(), 6) == [
        False,
        False,
        *[True] * 5,
    ]  # step 0, and six steps


@pytest.mark.parametrize("model", [Depthwise(groups=1), Depthwise(groups=4), Depthwise(view=True)])
def test_models_that_stay_as_they_are(model: Depthwise) -> None:
    net = network(model)
    assert not any(layouts(net, pcg.Scheduler(net), images(), 6))


@pytest.mark.parametrize(
    ("steps", "how"),
    [(3, {}), (6, {"watch": lambda *_: None}), (6, {"memory": "1GB"})],
)
def test_runs_that_stay_as_they_are(plain: pcg.PCNetwork, steps: int, how: dict[str, object]) -> None:
    assert not any(layouts(plain, pcg.Scheduler(plain), images(), steps, **how))


@pytest.mark.parametrize("how", [{}, {"checkpoint": True}])
def test_gradients_through_all_steps(plain: pcg.PCNetwork, how: dict[str, bool]) -> None:
    def gradients(net: pcg.PCNetwork, direct: bool, **how: bool) -> list[Tensor]:
        given = images().to(net.dtype).requires_grad_()
        scheduler = pcg.Scheduler(net, direct=direct)
        run = scheduler.run(given, 6, record=["output"], differentiable=True, **how)
        loss = run.output[-1].square().sum() + run.output[3].sum() + run.state.values["e2"].sum()
        return list(torch.autograd.grad(loss, [given, *net.predictors.parameters()]))

    expected = gradients(copy.deepcopy(plain).double(), True)
    for one, other in zip(gradients(plain, False, **how), expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))
    net = copy.deepcopy(plain)
    assert layouts(net, pcg.Scheduler(net), images(), 6, differentiable=True, **how)[2:] == [True] * 5


def test_a_checkpointed_run_keeps_the_last_step(plain: pcg.PCNetwork) -> None:
    """Which the backward pass would make again at once; all others are made twice."""
    net, calls = copy.deepcopy(plain), []
    net.predictors["e2->e1"].register_forward_hook(lambda *_: calls.append(1))
    given = images().requires_grad_()
    run = pcg.Scheduler(net).run(given, 5, record=[], differentiable=True, checkpoint=True)
    run.state.values["e1"].sum().backward()
    assert len(calls) == 5 + 4


def test_where_it_is_not_known_to_be_faster(plain: pcg.PCNetwork) -> None:
    assert not any(layouts(plain, pcg.Scheduler(plain, direct=True), images(), 6))
    with torch.autocast("cpu", torch.bfloat16):
        assert not any(layouts(plain, pcg.Scheduler(plain), images(), 6))
    double = copy.deepcopy(plain).double()
    assert not any(layouts(double, pcg.Scheduler(double), images(), 6))


def test_whoever_lays_out_the_images_gets_them_so(plain: pcg.PCNetwork) -> None:
    run = pcg.Scheduler(plain).run(images().to(memory_format=torch.channels_last), 6)
    assert not run.state.values["e1"].is_contiguous()
    assert run.state.values["e1"].is_contiguous(memory_format=torch.channels_last)


def test_parts_that_are_held_delays_and_tapes(tmp_path: Path) -> None:
    feedback = [{"source": "e2", "target": "e1", "delay": 3}, {"source": "e1", "target": "input"}]
    net, given = network(feedback=feedback), images()
    mask = torch.zeros(3, 16, 16, dtype=torch.bool)
    mask[:, :8] = True
    how = {"mask": {"input": mask}, "clamp": {"e3": torch.ones(2, 8, 4, 4)}, "record": ["values", "output"]}
    got = pcg.Scheduler(net).run(given, 7, **how)  # type: ignore[arg-type]
    direct = pcg.Scheduler(net, direct=True).run(given, 7, **how)  # type: ignore[arg-type]
    for name, series in direct.values.items():
        for one, other in zip(got.values[name], series, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert torch.equal(got.values["input"][-1][:, :, :8], given[:, :, :8])
    assert all(one.is_contiguous() for earlier in got.state.past.values() for one in earlier)
    with pcg.Tape(tmp_path / "run.safetensors") as tape:
        taped = pcg.Scheduler(net).run(given, 7, **how, to=tape)  # type: ignore[arg-type]
        assert torch.equal(taped.values["e1"][7], got.values["e1"][7])
    following = pcg.Scheduler(net).step(got.state)
    expected = pcg.Scheduler(net).step(direct.state)
    torch.testing.assert_close(following.values["e1"], expected.values["e1"], rtol=1e-4, atol=1e-5)
