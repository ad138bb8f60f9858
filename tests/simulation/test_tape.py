"""A tape holds what a run in memory would, in a file that anyone reads, and takes no memory for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import pcgraph as pcg
from pcgraph.errors import InputError
from tests.nets import Residual

RECORD = ["output", "values", "predictions", "errors:e2->e1", "energy", "gradients"]
SPEC = {
    "name": "residual",
    "backbone": {"input": [3, 16, 16]},
    "nodes": {"e1": "stem", "e2": "block1.conv2", "e3": "block2.conv2"},
    "feedback": "chain",
    "dynamics": {"rule": "predify", "error": 0.1},
}


@pytest.fixture
def scheduler() -> pcg.Scheduler:
    return pcg.Scheduler(pcg.build(pcg.parse_spec(SPEC), model=Residual()))


def flat(run: pcg.Run) -> dict[str, list[torch.Tensor]]:
    found = {"output": [*run.output]}
    for quantity in ("values", "predictions", "errors", "energy", "gradients"):
        found |= {f"{quantity}:{name}": [*series] for name, series in getattr(run, quantity).items()}
    return found


def test_a_tape_holds_what_is_kept_in_memory(scheduler: pcg.Scheduler, tmp_path: Path) -> None:
    images = torch.randn(2, 3, 16, 16)
    expected = flat(scheduler.run(images, 3, record=RECORD))
    with pcg.Tape(tmp_path / "run.safetensors") as tape:
        run = scheduler.run(images, 3, record=RECORD, to=tape)
        during = flat(run)
        assert list(tmp_path.glob("*.safetensors")) == []
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]
    read = load_file(tmp_path / "run.safetensors")
    after = flat(run)
    assert set(read) == set(expected) == set(during) == set(after)
    for name, series in expected.items():
        assert torch.equal(read[name], torch.stack(series)), name
        for found in (during[name], after[name]):
            assert len(found) == 4
            assert all(torch.equal(a, b) for a, b in zip(found, series, strict=True))
    assert torch.equal(run.values["e1"][-1], expected["values:e1"][3])
    with pytest.raises(IndexError):
        run.values["e1"][4]
    with pytest.raises(InputError, match="'e9' was not recorded"):
        run.values["e9"]


def test_several_runs_stand_side_by_side(scheduler: pcg.Scheduler, tmp_path: Path) -> None:
    batches = torch.randn(5, 3, 16, 16).split(2)
    with pcg.Tape(tmp_path / "run.safetensors", ["values:e2", "output"]) as tape:
        runs = [
            scheduler.run(batch, steps, record=["values", "output"], to=tape)
            for batch, steps in zip(batches, (3, 1, 2), strict=True)
        ]
    read = load_file(tmp_path / "run.safetensors")
    assert set(read) == {"values:e2", "output"}
    assert isinstance(runs[0].values["e1"], list)  # what the tape does not take stays in memory
    for place, (batch, steps) in enumerate(zip(batches, (3, 1, 2), strict=True)):
        alone = scheduler.run(batch, steps, record=["values:e2"])
        for step in range(4):  # of a run that is shorter, the last step is repeated
            expected = alone.values["e2"][min(step, steps)]
            assert torch.equal(read["values:e2"][step, 2 * place : 2 * place + 2], expected)
        assert torch.equal(runs[place].values["e2"][steps], alone.values["e2"][steps])


def test_what_fails_leaves_nothing(scheduler: pcg.Scheduler, tmp_path: Path) -> None:
    def stop(state: pcg.State, energies: Any) -> None:
        if state.step == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pcg.Tape(tmp_path / "run.safetensors") as tape:
        scheduler.run(torch.randn(2, 3, 16, 16), 2, record=["values"], watch=stop, to=tape)
    assert list(tmp_path.iterdir()) == []
    with pcg.Tape(tmp_path / "run.safetensors") as tape, pytest.raises(InputError, match="leave out `to`"):
        scheduler.run(torch.randn(2, 3, 16, 16), 1, to=tape, differentiable=True)
    assert list(tmp_path.iterdir()) == []


def test_a_quantity_keeps_its_shape(scheduler: pcg.Scheduler, tmp_path: Path) -> None:
    with pcg.Tape(tmp_path / "run.safetensors") as tape:
        scheduler.run(torch.randn(2, 3, 16, 16), 1, record=["values"], to=tape)
        with pytest.raises(InputError, match=r"'values:input' was torch\.float32"):
            pcg.Scheduler(scheduler.network.double()).run(
                torch.randn(2, 3, 16, 16), 1, record=["values"], to=tape
            )


MEASURED = """
import sys, torch, pcgraph as pcg
from resource import RUSAGE_SELF, getrusage
spec = {"name": "wide", "nodes": {"a": {"shape": [250_000]}, "b": {"shape": [1]}},
        "edges": [{"source": "b", "target": "a", "predictor": ["Linear"]}],
        "dynamics": {"rule": "energy", "rate": 0.1}, "schedule": {"initial": "zeros"}}
scheduler = pcg.Scheduler(pcg.build(pcg.parse_spec(spec)))
for steps in (5, 50):
    with pcg.Tape(sys.argv[1]) as tape:
        run = scheduler.run(clamp={"b": torch.ones(4, 1)}, steps=steps, record=["values"], to=tape)
    assert len(run.values["a"]) == steps + 1
    print(getrusage(RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.heavy
@pytest.mark.long
def test_memory_does_not_grow_with_the_steps(tmp_path: Path) -> None:
    """4 MB a step: 50 of them would be 200 MB."""
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "run.safetensors")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    few, many = (float(peak) for peak in done.stdout.split())
    assert (tmp_path / "run.safetensors").stat().st_size > 50 * 4_000_000
    assert many < few + 60
