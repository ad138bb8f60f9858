"""Study files for tests: small, and quick to compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pcgraph.study import Arms, Plan, Study, load_study

TRAIN = {"data": "digits:train:0-299", "epochs": 1, "batch": 100}
EVALUATE = {"data": "digits", "noise": {"gaussian": [0.5]}, "limit": 40, "steps": 2}


def values(**changes: Any) -> dict[str, Any]:
    """A study of digits: two batches to learn from, 40 images to be measured on."""
    return {
        "study": "small",
        "base": "digits",
        "seeds": 2,
        "reset": ["weights", "dynamics.nodes"],
        "arms": {"none": "none", "chain": "chain", "dense": "dense"},
        "train": TRAIN,
        "evaluate": EVALUATE,
        **changes,
    }


def written(folder: Path, **changes: Any) -> Path:
    """The same as a file."""
    path = folder / "study.yaml"
    path.write_text(
        yaml.safe_dump({k: v for k, v in values(**changes).items() if v is not None}, sort_keys=False)
    )
    return path


def study(folder: Path, **changes: Any) -> Study:
    """The same, read."""
    return load_study(written(folder, **changes))


def planned(folder: Path, **changes: Any) -> Plan:
    """Its plan."""
    given = study(folder, **changes)
    return Plan(given, Arms(given))
