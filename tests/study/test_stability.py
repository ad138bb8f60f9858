"""The stability of a study's arms, against that of networks built by hand."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import torch

import pcgraph as pcg
from pcgraph.datasets import open_data
from pcgraph.errors import SpecError
from pcgraph.report.study import arm_rows, arms_csv
from pcgraph.study import CellStore, Results, run_cells
from pcgraph.study.comparisons import comparisons
from pcgraph.study.stability import stability_csv
from pcgraph.study.work import STABILITY, Worker
from tests.study.files import planned, study

pytestmark = pytest.mark.heavy
WEAK = {"feedforward": 0.5, "feedback": 0.2, "error": 0.0}
STRONG = {"feedforward": 0.5, "feedback": 0.2, "error": 50.0, "gradient": "sum"}
ARMS = {
    "none": "none",
    "weak": {"feedback": "chain", "spec": {"dynamics": WEAK}},
    "strong": {"feedback": "chain", "spec": {"dynamics": STRONG}},
}
CHANGES = {"arms": ARMS, "train": None, "seeds": 2, "analyses": ["stability"], "lesions": {"of": "strong"}}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("study")
    plan = planned(folder, **CHANGES)
    store = CellStore(folder / "cells")
    run_cells(plan.cells, store)
    return Results(plan, store)


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_line_an_arm_and_seed(results: Results) -> None:
    lines = read(stability_csv(results))
    lesions = [f"strong without {name}" for name in ("e1->input", "e2->e1", "e3->e2")]
    assert [line["arm"] for line in lines] == [a for a in ("none", "weak", "strong", *lesions) for _ in "01"]
    assert [line["seed"] for line in lines[:4]] == ["0", "1", "0", "1"]
    none, weak, strong = lines[0], lines[2], lines[4]
    assert (none["settled"], none["steps"], none["images"]) == ("8", "0.0", "8")  # starts at its fixed point
    assert weak["settled"] == "8"
    assert float(weak["spectral_radius"]) < 1 < float(strong["spectral_radius"])
    assert strong["settled"] == "0"
    assert strong["others"]


def test_the_radius_is_that_of_the_network_at_rest(results: Results) -> None:
    """By `pcg.spectral_radius`, on the same images after 300 steps."""
    (arm,) = [one for one in results.plan.arms.wirings if one.name == "weak"]
    network = pcg.build(arm.spec, seed=1)
    data = open_data("digits", "test", shape=(1, 28, 28))
    from pcgraph.datasets import choice

    images = torch.stack([data.item(place).image for place in choice(len(data), 8, 0)])
    scheduler = pcg.Scheduler(network)
    rest = scheduler.run(images, 300, record=[]).state
    line = read(stability_csv(results))[3]
    radius = pcg.spectral_radius(scheduler, rest, tolerance=1e-5)
    assert float(line["spectral_radius"]) == pytest.approx(radius, rel=5e-3)


def test_the_table_has_them(results: Results) -> None:
    rows = read(arms_csv(arm_rows(results, comparisons(results))))
    lines = read(stability_csv(results))
    for row in rows:
        own = [line for line in lines if line["arm"] == row["arm"]]
        assert float(row["spectral_radius"]) == max(float(line["spectral_radius"]) for line in own)
        assert row["settled"] == f"{sum(int(line['settled']) for line in own)}/16"
    assert rows[0]["steps_to_settle"] == "0.0"


def test_the_analysis_is_a_cell_of_its_own(tmp_path: Path, results: Results) -> None:
    without = planned(tmp_path, **{**CHANGES, "analyses": None})
    assert {cell.key for cell in without.cells} < {cell.key for cell in results.plan.cells}
    one = next(one for one in results.plan.analyses if one.arm == "strong without e2->e1")
    again = Worker()(one.cell.kind, one.cell.content, [])
    assert json.loads(again[STABILITY]) == json.loads(results.store.read(one.cell.key)[STABILITY])


def test_an_analysis_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="analyses"):
        study(tmp_path, analyses=["telepathy"])
