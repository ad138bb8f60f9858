"""The most memory that a process has resident while it works."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

MIB = 2**20


def resident() -> float:
    """MiB that the process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MIB


def peaks(work: Callable[[], Tensor]) -> tuple[Tensor, float, float]:
    """What the work gives, MiB at its peak above those before, and all of them."""
    gc.collect()
    before = resident()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    result = work()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 1024
    return result, peak - before, peak
