"""Peak memory of a run and of a gradient through one, each way in a process of its own.

What is reported is the most memory that the process had resident (or, on a GPU, allocated) while it ran,
less what it had when network and images were there. The allocator gives freed memory back at once, so that
nothing counts that is not in use.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from dynamics import hook_gradient, through_steps
from networks import images, pair
from table import Group, Measure, Record, check_agreement
from torch import Tensor

import pcgraph as pcg

MIB = 2**20
HONEST = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(MIB), "MALLOC_TRIM_THRESHOLD_": str(MIB)}
WAYS = ("hooks", "pcgraph", "default call", "hooks differentiable", "differentiable", "checkpointed")
STEPS = 3
"""Of a run that is not differentiable, whose peak does not grow with the steps."""
DEFAULT = 20
"""Of a default call, which may make what takes memory where that saves time."""


def resident() -> float:
    """MiB that the process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MIB


def peak_above_start(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """What the work gives, and MiB at its peak above those before."""
    gc.collect()
    before = resident()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    result = work()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return result, int(status["VmHWM"].split()[0]) / 1024 - before


def one(way: str, name: str, batch: int, steps: int, result: Path) -> None:
    """One way, in this process."""
    network, hooks = pair(name)
    scheduler, given = pcg.Scheduler(network, direct=way == "pcgraph"), images(batch)
    if "hooks" in way:
        del network, scheduler
    works: dict[str, Callable[[], Tensor]] = {
        "hooks": lambda: hooks.run(given, steps),
        "pcgraph": lambda: scheduler.run(given, steps=steps).output[-1],
        "default call": lambda: scheduler.run(given, steps=steps).output[-1],
        "hooks differentiable": lambda: hook_gradient(hooks, given.requires_grad_(), steps),
        "differentiable": lambda: through_steps(scheduler, given.requires_grad_(), steps, False)(),
        "checkpointed": lambda: through_steps(scheduler, given.requires_grad_(), steps, True)(),
    }
    found, peak = peak_above_start(works[way])
    torch.save(found, result)
    print(json.dumps({"peak": peak}))


def apart(way: str, name: str, batch: int, steps: int) -> tuple[Tensor, float]:
    """One way, in a process of its own: what it found, and its peak in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.pt"
        words = [way, name, str(batch), str(steps), str(result)]
        done = subprocess.run(
            [sys.executable, __file__, *words],
            env={**os.environ, **HONEST},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return torch.load(result, weights_only=True), said["peak"]


def memory(name: str, batch: int, way: str, baseline: str) -> Measure:
    """One way against another."""

    def measure(steps: int, repeats: int) -> Record:
        steps = {"pcgraph": STEPS, "default call": DEFAULT}.get(way, steps)
        expected, before = apart(baseline, name, batch, steps)
        got, after = apart(way, name, batch, steps)
        title = f"{name}, batch {batch}" + ("" if way == "pcgraph" else f", {steps} steps, {way}")
        difference = check_agreement(title, expected, got)
        return {
            "case": title,
            "baseline": before,
            "pcgraph": after,
            "ratio": after / before,
            "difference": difference,
        }

    return measure


CASES: dict[str, Measure] = {
    "memory-efficientnet_b0-1": memory("efficientnet_b0", 1, "pcgraph", "hooks"),
    "memory-efficientnet_b0-8": memory("efficientnet_b0", 8, "pcgraph", "hooks"),
    "memory-vgg16-1": memory("vgg16", 1, "pcgraph", "hooks"),
    "memory-vgg16-4": memory("vgg16", 4, "pcgraph", "hooks"),
    "memory-efficientnet_b0-8-default": memory("efficientnet_b0", 8, "default call", "hooks"),
    "memory-vgg16-1-default": memory("vgg16", 1, "default call", "hooks"),
    "memory-vgg16-4-default": memory("vgg16", 4, "default call", "hooks"),
    "memory-efficientnet_b0-4-differentiable": memory(
        "efficientnet_b0", 4, "differentiable", "hooks differentiable"
    ),
    "memory-efficientnet_b0-4-checkpointed": memory(
        "efficientnet_b0", 4, "checkpointed", "hooks differentiable"
    ),
}
GROUP = Group(
    "Peak memory in MiB above the start, against the hook-style baseline",
    {
        "baseline": ("baseline MiB", ".0f"),
        "pcgraph": ("pcgraph MiB", ".0f"),
        "ratio": ("ratio", ".2f"),
        "difference": ("difference", ".0e"),
    },
    CASES,
)


def main() -> None:
    """One way; what `apart` starts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("name")
    parser.add_argument("batch", type=int)
    parser.add_argument("steps", type=int)
    parser.add_argument("result", type=Path, help="where to write what was found")
    given = parser.parse_args()
    one(given.way, given.name, given.batch, given.steps, given.result)


if __name__ == "__main__":
    main()
