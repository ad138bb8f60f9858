"""Start-up: seconds until a fresh Python has done the first thing, beside what the libraries alone take."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Sequence
from pathlib import Path

from table import Group, Measure, Record

HERE = Path(__file__).parent
NOTHING = ("-c", "pass")
LIBRARIES = ("-c", "import torch, torchvision")
EFFICIENTNET = """
import pcgraph as pcg
from pcgraph.files.shipped import shipped_spec
pcg.build(shipped_spec('efficientnet_b0'), weights=False)
"""

RUN = """
import sys
import torch
from networks import images, pair
import pcgraph as pcg
network, hooks = pair('efficientnet_b0')
if sys.argv[1] == 'baseline':
    hooks.run(images(BATCH), 20)
else:
    pcg.Scheduler(network).compile().run(images(BATCH), steps=20)
"""


def seconds(arguments: Sequence[str]) -> float:
    """Of a process from its start to its end."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def started(case: str, baseline: Sequence[str], ours: Sequence[str]) -> Measure:
    """Both in turn, after one of each that fills the disk's cache."""

    def measure(steps: int, repeats: int) -> Record:
        pairs = [(seconds(baseline), seconds(ours)) for _ in range(repeats + 1)][1:]
        return {
            "case": case,
            "baseline": statistics.median(a for a, _ in pairs),
            "pcgraph": statistics.median(b for _, b in pairs),
            "more": statistics.median(b - a for a, b in pairs),
        }

    return measure


def compiled(batch: int) -> Measure:
    """Twenty steps of EfficientNetB0 with the start of the process, against the hook-style baseline's."""

    def measure(steps: int, repeats: int) -> Record:
        run = ("-c", f"import sys; sys.path.insert(0, {str(HERE)!r})\n" + RUN.replace("BATCH", str(batch)))
        with (
            tempfile.TemporaryDirectory() as cache,
            unittest.mock.patch.dict(os.environ, PCGRAPH_CACHE=cache),
        ):
            first = seconds((*run, "compiled"))
            case = f"20 steps of efficientnet_b0, batch {batch}, compiled by an earlier process (baseline)"
            row = started(case, (*run, "baseline"), (*run, "compiled"))(steps, repeats)
        return {**row, "ratio": row["pcgraph"] / row["baseline"], "first": first}

    return measure


CASES: dict[str, Measure] = {
    "startup-import": started("import pcgraph (Python alone)", NOTHING, ("-c", "import pcgraph")),
    "startup-help": started("pcgraph --help (Python alone)", NOTHING, ("-m", "pcgraph", "--help")),
    "startup-build": started(
        "build EfficientNetB0, no weights (import torch, torchvision)", LIBRARIES, ("-c", EFFICIENTNET)
    ),
    "startup-compiled-1": compiled(1),
    "startup-compiled-8": compiled(8),
}
GROUP = Group(
    "Start-up in seconds, of a new process each",
    {
        "baseline": ("without pcgraph", ".2f"),
        "pcgraph": ("pcgraph", ".2f"),
        "more": ("more", ".2f"),
        "ratio": ("ratio", ".2f"),
        "first": ("the process that compiles", ".0f"),
    },
    CASES,
)
