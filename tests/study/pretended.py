"""The results of a study that nobody computed: cells with drawn answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from pcgraph.study import CellStore, Plan, Results
from pcgraph.study.work import FAILED, MEASURED, STABILITY

IMAGES, CLASSES = 60, 10


def pretended(plan: Plan, folder: Path, *, failed: Mapping[str, int] | None = None) -> Results:
    """Fill the store of a plan.

    Args:
        plan: The study.
        folder: Of the store.
        failed: Arms that failed, with the seed with which they did.
    """
    store, failed = CellStore(folder / "cells"), failed or {}
    labels = torch.arange(IMAGES) % CLASSES
    skills = {one.name: place for place, one in enumerate(plan.arms.wirings)}
    for one in plan.measures:
        if failed.get(one.arm) == one.seed:
            found = {"during": "train", "message": "the loss is not finite"}
            store.write(one.cell, {FAILED: json.dumps(found).encode()})
            continue
        steps = int(one.cell.content["steps"]) + 1
        images = np.random.default_rng(plan.conditions.index(one.condition)).normal(size=IMAGES)
        own = np.random.default_rng([skills[one.arm], one.seed]).normal(size=IMAGES) * 0.4
        gain = 0.25 * np.sin(skills[one.arm]) * np.arange(steps)
        right = images + own + 0.6 + gain[:, None] > 0
        answers = torch.where(torch.from_numpy(right), labels, (labels + 1) % CLASSES)
        store.write(one.cell, {MEASURED: save({"answers": answers.to(torch.int32), "labels": labels})})
    for analysis in plan.analyses:
        place = skills[analysis.arm]
        wild = place % 5 == 4
        found = {
            "spectral_radius": None if place % 7 == 6 else 0.9 + 0.04 * place + 0.01 * analysis.seed,
            "unknown": "the step is not smooth" if place % 7 == 6 else "",
            "outcomes": ["settled"] * (3 if wild else 8) + ["cycle"] * (5 if wild else 0),
            "steps": [20 + place] * (3 if wild else 8) + [None] * (5 if wild else 0),
        }
        store.write(analysis.cell, {STABILITY: json.dumps(found).encode()})
    return Results(plan, store)
