"""Start-up: seconds until a fresh Python has done the first thing, beside what the libraries alone take."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from table import Group, Measure, Record

NOTHING = ("-c", "pass")
LIBRARIES = ("-c", "import torch, torchvision")
EFFICIENTNET = """
import pcgraph as pcg
from pcgraph.files.shipped import shipped_spec
pcg.build(shipped_spec('efficientnet_b0'), weights=False)
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


CASES: dict[str, Measure] = {
    "startup-import": started("import pcgraph (Python alone)", NOTHING, ("-c", "import pcgraph")),
    "startup-help": started("pcgraph --help (Python alone)", NOTHING, ("-m", "pcgraph", "--help")),
    "startup-build": started(
        "build EfficientNetB0, no weights (import torch, torchvision)", LIBRARIES, ("-c", EFFICIENTNET)
    ),
}
GROUP = Group(
    "Start-up in seconds, of a new process each",
    {
        "baseline": ("without pcgraph", ".2f"),
        "pcgraph": ("pcgraph", ".2f"),
        "more": ("more", ".2f"),
    },
    CASES,
)
