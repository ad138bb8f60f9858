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

from networks import keep_baseline
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
import torch, torchvision
from hook_style import images
import pcgraph as pcg
from pcgraph.files.shipped import shipped_spec
torch.manual_seed(0)
model = torchvision.models.efficientnet_b0().eval()
network = pcg.build(shipped_spec('efficientnet_b0'), model=model).requires_grad_(False)
pcg.Scheduler(network).compile().run(images(BATCH), steps=20)
"""
BASELINE = """
import torch, torchvision
from hook_style import HookNetwork, images
model = torchvision.models.efficientnet_b0().eval().requires_grad_(False)
parts = torch.load(PARTS, weights_only=False)
HookNetwork(**{**parts, 'model': model}).run(images(BATCH), 20)
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
    """Twenty steps of EfficientNetB0 with the start of the process, against the hook-style baseline's.

    Both make the model anew; the baseline's process reads its predictors, and does not import pcgraph.
    """

    def script(text: str) -> tuple[str, str]:
        return "-c", f"import sys; sys.path.insert(0, {str(HERE)!r})\n{text.replace('BATCH', str(batch))}"

    def measure(steps: int, repeats: int) -> Record:
        with (
            tempfile.TemporaryDirectory() as folder,
            unittest.mock.patch.dict(os.environ, PCGRAPH_CACHE=str(Path(folder) / "cache")),
        ):
            parts = keep_baseline("efficientnet_b0", Path(folder) / "parts.pt")
            ours = script(RUN)
            first = seconds(ours)
            case = f"20 steps of efficientnet_b0, batch {batch}, compiled by an earlier process (baseline)"
            row = started(case, script(BASELINE.replace("PARTS", repr(str(parts)))), ours)(steps, repeats)
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
