"""The networks of a study can be taken out of it: their specs give the answers that the study counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load

import pcgraph as pcg
from pcgraph.study import CellStore, Results, run_cells
from pcgraph.study.networks import specs_of_arms
from pcgraph.study.work import FAILED, MEASURED, Worker
from tests.study.files import TRAIN, planned

ARMS = {
    "none": "none",
    "chain": "chain",
    "own_gain": ["chain", {"source": "e3", "target": "e1", "gain": 0.1, "delay": 2}],
    "own_gain-delay-1": "dense",
}
GRID = {"arm": "own_gain", "delay": [1]}
FILES = {
    "none": "none.seed0.yaml",
    "chain": "chain.seed0.yaml",
    "own_gain": "own_gain.seed0.yaml",
    "own_gain-delay-1": "own_gain-delay-1.seed0.yaml",
    "own_gain[delay=1]": "own_gain-delay-1-.seed0.yaml",
}


def finished(folder: Path, **changes: object) -> Results:
    plan = planned(folder, seeds=1, grid=GRID, **changes)
    store = CellStore(folder / "cells")
    run_cells(plan.cells, store)
    return Results(plan, store)


def check(results: Results, folder: Path) -> None:
    folder.mkdir()
    specs = specs_of_arms(results, folder)
    assert set(specs) == set(FILES.values())
    measures = {
        one.arm: one.cell for one in results.plan.measures if (one.part, one.condition) == ("test", "clean:0")
    }
    for arm, name in FILES.items():
        (folder / name).write_text(specs[name])
        network = pcg.build(pcg.load_spec(folder / name), seed=0)
        content = measures[arm].content
        images = torch.stack([item.image for item in Worker().images(content)])
        run = pcg.Scheduler(network).run(images, steps=content["steps"])
        counted = load(results.store.read(measures[arm].key)[MEASURED])["answers"]
        assert torch.equal(torch.stack(list(run.output)).argmax(dim=-1), counted.long())


@pytest.mark.heavy
def test_trained_together(tmp_path: Path) -> None:
    results = finished(tmp_path, arms=ARMS, lesions={"of": "chain", "each": "edge"})
    check(results, tmp_path / "arms")


@pytest.mark.heavy
def test_tuned(tmp_path: Path) -> None:
    tune = {"data": "digits:train:0-199", "epochs": 1, "batch": 50, "steps": 2}
    results = finished(tmp_path, arms=ARMS, tune={**tune, "learns": ["dynamics", "edges"]})
    check(results, tmp_path / "arms")
    plain, tuned = (pcg.load_spec(tmp_path / "arms" / FILES[arm]) for arm in ("none", "own_gain"))
    assert plain.dynamics != tuned.dynamics
    assert tuned.feedback[1].gain not in (None, 0.1)


def test_what_failed_is_no_network(tmp_path: Path) -> None:
    train = {**TRAIN, "optimizer": {"name": "SGD", "lr": 1e30}}
    results = finished(tmp_path, arms={"own_gain": "chain"}, train=train)
    assert any(FAILED in results.store.read(one.key) for one in results.plan.cells)
    assert specs_of_arms(results, tmp_path / "arms") == {}
