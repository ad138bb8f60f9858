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

import numpy as np
import torch
from hook_style import images
from networks import keep_both
from safetensors.torch import load_file
from table import Group, Measure, Record, check_agreement

HERE = Path(__file__).parent
NOTHING = ("-c", "pass")
LIBRARIES = ("-c", "import torch, torchvision")
EFFICIENTNET = """
import pcgraph as pcg
from pcgraph.files.shipped import shipped_spec
pcg.build(shipped_spec('efficientnet_b0'), weights=False)
"""

RUN = """
import torch, torchvision
from hook_style import images
import pcgraph as pcg
network = pcg.build(SPEC).requires_grad_(False)
run = pcg.Scheduler(network).compile().run(images(BATCH), steps=STEPS)
torch.save(run.output[-1], FOUND)
"""
BASELINE = """
import torch, torchvision
from hook_style import HookNetwork, images
found = HookNetwork(**torch.load(PARTS, weights_only=False)).run(images(BATCH), STEPS)
torch.save(found, FOUND)
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


def script(text: str, **values: object) -> tuple[str, str]:
    """A program, with values in place of their names."""
    for name, value in values.items():
        text = text.replace(name, repr(str(value) if isinstance(value, Path) else value))
    return "-c", f"import sys; sys.path.insert(0, {str(HERE)!r})\n{text}"


def second(batch: int, steps: int, command: bool = False) -> Measure:
    """Steps of EfficientNetB0 with the start of the process, against the hook-style baseline's.

    An earlier process has compiled them. The baseline's process reads its model and predictors, and does not
    import pcgraph. Ours is a script that compiles steps, or ``pcgraph run --fast``, which also verifies
    what it has read of the model, draws its figures and writes its page.
    """

    def measure(times: int, repeats: int) -> Record:
        with tempfile.TemporaryDirectory() as name, unittest.mock.patch.dict(os.environ, PCGRAPH_CACHE=name):
            folder = Path(name) / "files"
            folder.mkdir()
            spec, parts = keep_both("efficientnet_b0", folder)
            theirs, found = folder / "theirs.pt", folder / "found.pt"
            baseline = script(BASELINE, PARTS=parts, BATCH=batch, STEPS=steps, FOUND=theirs)
            ours = script(RUN, SPEC=spec, BATCH=batch, STEPS=steps, FOUND=found)
            if command:
                given = folder / "images.npy"
                np.save(given, images(batch).numpy())
                options = f"--fast --steps {steps} --batch {batch} --record output --quiet --force --out"
                ours = ("-m", "pcgraph", "run", str(spec), str(given), *options.split(), str(folder / "run"))
            first = seconds(ours)
            how = "pcgraph run --fast" if command else "compiled"
            made = "one step" if steps == 1 else f"{steps} steps"
            case = f"{made} of efficientnet_b0, batch {batch}, {how}, second process (baseline)"
            row = started(case, baseline, ours)(times, repeats)
            kept = folder / "run" / "tensors.safetensors"
            output = load_file(kept)["output"][-1] if command else torch.load(found)
            row["difference"] = check_agreement(case, torch.load(theirs), output)
        return {**row, "ratio": row["pcgraph"] / row["baseline"], "first": first}

    return measure


CASES: dict[str, Measure] = {
    "startup-import": started("import pcgraph (Python alone)", NOTHING, ("-c", "import pcgraph")),
    "startup-help": started("pcgraph --help (Python alone)", NOTHING, ("-m", "pcgraph", "--help")),
    "startup-build": started(
        "build EfficientNetB0, no weights (import torch, torchvision)", LIBRARIES, ("-c", EFFICIENTNET)
    ),
    "startup-compiled-first": second(1, 1),
    "startup-compiled-1": second(1, 20),
    "startup-compiled-8": second(8, 20),
    "startup-fast-1": second(1, 20, command=True),
    "startup-fast-8": second(8, 20, command=True),
}
GROUP = Group(
    "Start-up in seconds, of a new process each",
    {
        "baseline": ("without pcgraph", ".2f"),
        "pcgraph": ("pcgraph", ".2f"),
        "more": ("more", ".2f"),
        "ratio": ("ratio", ".2f"),
        "difference": ("difference", ".0e"),
        "first": ("the process that compiles", ".0f"),
    },
    CASES,
)
