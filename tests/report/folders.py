"""Run folders as the commands write them, with numbers that a test chooses."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

SPEC = """\
name: pair
nodes: {image: {shape: [3, 8, 8]}, hidden: {shape: [4, 4, 4]}}
edges: [{source: image, target: hidden, predictor: [{Conv2d: {kernel_size: 2, stride: 2}}]}]
feedback: [{source: hidden, target: image, predictor: [{ConvTranspose2d: {kernel_size: 2, stride: 2}}]}]
"""


def write(path: Path, record: dict[str, Any], name: str, head: Sequence[str], rows: Iterable[Any]) -> Path:
    """A run folder with a table and a spec."""
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps(record, indent=2))
    (path / "spec.yaml").write_text(SPEC)
    with (path / name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
    return path


def simulated(path: Path, images: Sequence[str], **record: Any) -> Path:
    """A run of three steps: one class wins in each image, and the energies fall."""
    rows: list[Any] = []
    for place, image in enumerate(images):
        for step in range(4):
            rows.append((image, step, "probability", "cat", 0.5 + 0.1 * step))
            rows.append((image, step, "probability", "dog", 0.3 - 0.1 * step))
            rows.append((image, step, "energy", "hidden->image", (place + 1) * 100 * 0.5**step))
            rows.append((image, step, "energy", "image->hidden", 0.0))
    known = {"kind": "run", "name": "pair", "seed": 0, "feedback_edges": ["hidden->image"], "versions": {}}
    held = [{"name": image, "steps": 3} for image in images]
    head = ("image", "step", "quantity", "name", "value")
    return write(path, {**known, "images": held, **record}, "metrics.csv", head, rows)


def queried(path: Path) -> Path:
    """A query of two items, with a picture of the answers."""
    rows = [(item, step, "energy", "image->hidden", 8.0 / (step + 1)) for item in "ab" for step in range(3)]
    known = {"kind": "query", "name": "pair", "seed": 0, "images": [{"name": item} for item in "ab"]}
    write(path, known, "metrics.csv", ("image", "step", "quantity", "name", "value"), rows)
    Image.new("RGB", (40, 20), "green").save(path / "answers.png")
    return path


def evaluated(path: Path, gain: float = 0.1, **record: Any) -> Path:
    """An evaluation of two steps: noise costs accuracy, and each step wins ``gain`` back."""
    rows: list[Any] = []
    for noise, levels in (("clean", [0.0]), ("gaussian", [0.5, 1.0])):
        for level in levels:
            for step in range(3):
                value = 0.9 - 0.4 * level + gain * step * level
                rows.append(
                    ("digits", noise, level, step, "accuracy", "", value, value - 0.05, value + 0.05, 100)
                )
                rows.append(
                    ("digits", noise, level, step, "distance", "hidden", level / (step + 1), "", "", 100)
                )
    head = ("data", "noise", "level", "step", "metric", "name", "value", "low", "high", "n")
    known = {"kind": "evaluate", "name": "pair", "seed": 0}
    return write(path, {**known, **record}, "evaluation.csv", head, rows)


def trained(path: Path, **record: Any) -> Path:
    """A training of 300 steps in three epochs."""
    rows: list[Any] = []
    for step in range(1, 301):
        rows.append(((step - 1) // 100, step, "train", "hidden->image", 2.0 / step))
        if step % 100 == 0:
            rows.append(((step - 1) // 100, step, "validation", "hidden->image", 2.5 / step))
    head = ("epoch", "step", "split", "name", "value")
    known = {"kind": "train", "name": "pair", "seed": 0, "settings": {"optimizer": {"lr": 0.001}}}
    return write(path, {**known, **record}, "losses.csv", head, rows)
