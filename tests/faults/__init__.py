"""Faults on purpose: afterwards a result is whole or absent, and goes on to the same end or is refused."""

from __future__ import annotations

import os
from pathlib import Path

SEEDS = int(os.environ.get("PCGRAPH_FAULTS", "0"))
"""How many faults of each kind the slow tests try; left out, each has its own number."""
RESULTS = ("metrics.csv", "tensors.safetensors", "evaluation.csv", "images.safetensors", "losses.csv")
RESULTS += ("weights.safetensors", "spec.yaml")


def hidden(folder: Path) -> list[str]:
    """What is hidden in a folder, at any depth."""
    return sorted(str(path) for path in folder.rglob(".*"))


def contents(folder: Path) -> dict[str, bytes]:
    """The numbers in a run folder."""
    return {name: (folder / name).read_bytes() for name in RESULTS if (folder / name).is_file()}


def everything(folder: Path) -> dict[str, bytes]:
    """All files of a folder, at any depth."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
