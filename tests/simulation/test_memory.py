"""Runs within a memory limit: the same numbers in parts, and no more memory than was given."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import pcgraph as pcg
from pcgraph.errors import InputError
from pcgraph.simulation.batch_parts import result_size
from pcgraph.simulation.memory import SHARE, Cost, MemoryMeter, measure_cost, parse_memory
from tests.nets import Residual

RECORD = ["output", "values", "predictions", "errors", "energy", "gradients"]
BATCH, STEPS = 7, 3


def residual(**changes: Any) -> pcg.PCNetwork:
    spec = {
        "name": "residual",
        "backbone": {"input": [3, 16, 16]},
        "nodes": {"e1": "stem", "e2": "block1.conv2", "e3": "block2.conv2"},
        "feedback": ["chain", {"source": "e3", "target": "input", "delay": 3}],
        "dynamics": {"rule": "predify", "error": 0.1},
        **changes,
    }
    return pcg.build(pcg.parse_spec(spec), model=Residual())


def limit_for(scheduler: pcg.Scheduler, images: torch.Tensor, number: int, **masks: Any) -> int:
    """The memory with which so many images fit at once, and not one more."""

    def run(count: int, steps: int) -> int:
        return result_size(scheduler.run(images[:count], steps, record=RECORD, **masks)) // count

    cost = measure_cost(run, STEPS, len(images))
    limit = math.ceil((cost.fixed + len(images) * cost.result + number * cost.image) / SHARE)
    assert cost.images(len(images), limit) == number
    return limit


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that are started."""
    from pcgraph import scheduler

    seen: list[int] = []
    start = scheduler.start_state

    def counted(*arguments: Any) -> pcg.State:
        state = start(*arguments)
        seen.append(state.batch)
        return state

    monkeypatch.setattr(scheduler, "start_state", counted)
    return seen


def flat(run: pcg.Run) -> dict[str, list[torch.Tensor]]:
    found = {"output": [*run.output]}
    for quantity in ("values", "predictions", "errors", "energy", "gradients"):
        found |= {f"{quantity}:{name}": [*series] for name, series in getattr(run, quantity).items()}
    return found


@pytest.mark.parametrize("taped", [False, True])
def test_parts_give_the_numbers_of_the_whole(taped: bool, tmp_path: Path, batches: list[int]) -> None:
    scheduler = pcg.Scheduler(residual())
    images = torch.randn(BATCH, 3, 16, 16)
    masks = {"mask": {"input": torch.rand(3, 16, 16) > 0.5}}
    whole = scheduler.run(images, STEPS, record=RECORD, **masks)
    limit = limit_for(scheduler, images, 3, **masks)
    batches.clear()
    with pcg.Tape(tmp_path / "run.safetensors", [] if not taped else None) as tape:
        parts = scheduler.run(images, STEPS, record=RECORD, memory=limit, to=tape if taped else None, **masks)
    assert batches[-3:] == [2, 2, 3] if not taped else len(batches) >= 3
    assert (parts.steps, parts.converged) == (STEPS, False)
    one, other = flat(whole), flat(parts)
    assert one.keys() == other.keys()
    for name, series in one.items():
        for a, b in zip(series, other[name], strict=True):
            torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(  # the joined state goes on like any
        scheduler.step(parts.state).values, scheduler.step(whole.state).values, rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(scheduler.readout(parts.state), scheduler.readout(whole.state))
    if taped:
        read = load_file(tmp_path / "run.safetensors")
        assert all(torch.equal(read[name], torch.stack(series)) for name, series in other.items())


def test_what_fits_is_not_cut(batches: list[int]) -> None:
    scheduler = pcg.Scheduler(residual())
    scheduler.run(torch.randn(BATCH, 3, 16, 16), STEPS, memory="1 GB")
    assert batches[-1] == BATCH


def test_too_little_for_one_image_is_told() -> None:
    with pytest.raises(InputError, match=r"memory: 10 KB are too little: .* KB for one image at a time and"):
        pcg.Scheduler(residual()).run(torch.randn(BATCH, 3, 16, 16), memory="10 kB")


@pytest.mark.parametrize(
    ("changes", "arguments", "reason"),
    [
        ({}, {"tolerance": 0.1}, "a tolerance stops the whole batch"),
        ({"schedule": {"initial": "normal"}}, {}, "'initial: normal' draws"),
        ({"dynamics": {"rule": "predify", "gradient": "mean"}}, {}, "'gradient: mean' divides"),
        ({"dynamics": {"rule": "energy", "temperature": 1.0}}, {}, "a temperature draws"),
        ({}, {"differentiable": True}, "differentiable or watched"),
    ],
)
def test_what_a_batch_has_in_common_is_not_cut(
    changes: dict[str, Any], arguments: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        pcg.Scheduler(residual(**changes)).run(torch.randn(2, 3, 16, 16), memory="1GB", **arguments)


def test_amounts_of_memory() -> None:
    assert parse_memory("2GB") == 2_000_000_000
    assert parse_memory(" 1.5 GiB") == 3 * 2**29
    assert parse_memory(".5mb") == 500_000
    assert parse_memory(17) == 17
    for wrong in ("2", "GB", "-1GB", "2 XB", "0GB", 0):
        with pytest.raises(InputError, match="memory: expected an amount such as '2GB', got"):
            parse_memory(wrong)


def test_the_meter_counts_what_is_alive() -> None:
    with MemoryMeter() as meter:
        one = torch.zeros(1000)
        other = one + 1
        view = other.view(10, 100)
        del one, other
        assert meter.alive == 4000
        del view
        third = torch.zeros(500)
    assert (meter.alive, meter.peak) == (2000, 8000)
    assert len(third) == 500


def test_what_a_run_costs_is_worked_out_from_short_ones() -> None:
    kept: list[torch.Tensor] = []

    def run(images: int, steps: int) -> int:
        kept.clear()
        working = torch.zeros(250)  # 1,000 bytes, whatever the images
        for _ in range(steps):
            kept.append(torch.zeros(images, 5))  # 20 bytes an image and step
        del working
        return 20 * steps

    assert measure_cost(run, steps=100, batch=8) == Cost(fixed=1000, image=2000, result=2000)


MEASURED = """
import torch, pcgraph as pcg
torch.set_num_threads(1)
conv = [{"Conv2d": {"kernel_size": 3, "padding": 1}}, "Tanh"]
spec = {"name": "wide", "nodes": {"a": {"shape": [3, 64, 64]}, "b": {"shape": [16, 64, 64]}},
        "edges": [{"source": "a", "target": "b", "predictor": conv}],
        "feedback": [{"source": "b", "target": "a", "predictor": conv}],
        "dynamics": {"rule": "energy", "rate": 0.1}}
scheduler = pcg.Scheduler(pcg.build(pcg.parse_spec(spec)).requires_grad_(False))
images = torch.randn(128, 3, 64, 64)
scheduler.run(images[:1], steps=1)
status = lambda key: int(open("/proc/self/status").read().split(key + ":")[1].split()[0]) / 1000
before = status("VmRSS")
for limit in ("130 MB", None):
    open("/proc/self/clear_refs", "w").write("5")
    scheduler.run(images, steps=2, memory=limit)
    print(status("VmHWM") - before)
"""


@pytest.mark.heavy
@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_no_more_memory_is_taken_than_was_given() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURED], check=True, capture_output=True, text=True)
    limited, unlimited = (float(taken) for taken in done.stdout.split())
    assert limited < 130 < unlimited
