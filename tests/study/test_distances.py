"""Studies of images without classes: agreement, and distances, against runs made by hand."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pcgraph as pcg
from pcgraph.datasets import choice, open_data, preprocess_for, subset
from pcgraph.evaluation import Settings, evaluate
from pcgraph.study import CellStore, Plan, Results, run_cells
from pcgraph.study.conditions import condition_of
from pcgraph.study.distances import distances_csv
from pcgraph.study.results import study_csv
from pcgraph.study.stability import stability_csv
from pcgraph.study.untrained import untrained
from tests.study.files import planned

pytestmark = pytest.mark.heavy
RUNAWAY = {"feedforward": 0.5, "feedback": 0.2, "error": 1e30, "gradient": "sum"}
LONG = [{"source": "e2", "target": "e1"}, {"source": "e3", "target": "e1"}]
EVALUATED = {
    "data": "photos",
    "right": "agreement",
    "distances": True,
    "noise": {"gaussian": [0.7], "salt_pepper": [0.2]},
    "limit": 7,
    "batch": 5,
    "steps": 3,
    "seed": 4,
}
CONDITIONS = ("clean:0", "gaussian:0.7", "salt_pepper:0.2")


def study_of(folder: Path, bank: Path, **changes: Any) -> Plan:
    """Wirings with the weights of one bank, which holds those of `chain`; nothing is trained."""
    weights = {"weights": str(bank)}
    arms = {
        "none": "none",
        "chain": {"feedback": "chain", "spec": weights},
        "long": {"feedback": LONG, "spec": weights},
        "runaway": {"feedback": "chain", "spec": {"dynamics": RUNAWAY}},
    }
    return planned(folder, **{"arms": arms, "train": None, "seeds": 1, "evaluate": EVALUATED, **changes})


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bank")
    (chain,) = planned(folder, arms={"chain": "chain"}, train=None).arms.wirings
    pcg.build(chain.spec, seed=3).save_weights(folder / "bank.safetensors")
    return folder / "bank.safetensors"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, bank: Path) -> Results:
    folder = tmp_path_factory.mktemp("study")
    plan = study_of(folder, bank)
    store = CellStore(folder / "cells")
    run_cells(plan.cells, store)
    return Results(plan, store)


def arm(results: Results, name: str) -> pcg.PCNetwork:
    (spec,) = [one.spec for one in results.plan.arms.wirings if one.name == name]
    return pcg.build(spec, seed=0)


def images_of(network: pcg.PCNetwork) -> Any:
    data = open_data("photos", "test", shape=(1, 28, 28), preprocess=preprocess_for(network.spec.backbone))
    return subset(data, choice(len(data), 7, 4))


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def pick(rows: list[dict[str, str]], name: str, **wanted: str) -> list[float]:
    return [float(row[name]) for row in rows if all(row[key] == value for key, value in wanted.items())]


@pytest.mark.parametrize("name", ["chain", "long"])
def test_they_are_those_of_an_evaluation(results: Results, name: str) -> None:
    network = arm(results, name)
    conditions = [condition_of(one) for one in CONDITIONS]
    found = evaluate(network, images_of(network), conditions, Settings(3, batch=5, seed=4, distances=True))
    distances, answers = read(distances_csv(results)), read(study_csv(results))
    for condition in CONDITIONS:
        noise = condition.partition(":")[0]
        agree = found[condition]["agree"].double().mean(dim=1).tolist()
        assert pick(answers, "accuracy", arm=name, noise=noise) == pytest.approx(agree)
        for node in ("e1", "e2", "e3"):
            expected = found[condition][f"distance:{node}"].double().mean(dim=1).tolist()
            own = pick(distances, "distance", arm=name, noise=noise, node=node)
            assert own == pytest.approx(expected, abs=1e-6)


def test_how_far_clean_states_leave_the_plain_network(results: Results) -> None:
    """By numpy's correlation of states that are run here."""
    network = arm(results, "chain")
    data = images_of(network)
    images = torch.stack([data.item(place, 4).image for place in range(len(data))])
    run = pcg.Scheduler(network).run(images, 3, record=["values", "output"])
    rows = read(distances_csv(results))
    for node, states in {**run.values, "(scores)": run.output}.items():
        if node == network.graph.receiver:
            continue
        flat = np.stack([one.flatten(1).numpy() for one in states])
        expected = [
            np.mean([1 - np.corrcoef(one, first)[0, 1] for one, first in zip(step, flat[0], strict=True)])
            for step in flat
        ]
        own = pick(rows, "from_plain", arm="chain", noise="clean", node=node)
        assert own == pytest.approx(expected, abs=1e-5)
        assert max(own) > 1e-3
        assert pick(rows, "distance", arm="chain", noise="clean", node=node) == pytest.approx(
            [0] * 4, abs=1e-6
        )


def test_the_plain_network_agrees_with_itself(results: Results) -> None:
    rows = read(study_csv(results))
    assert pick(rows, "accuracy", arm="none", noise="clean") == [1.0] * 4
    for name in ("chain", "long", "runaway"):
        first = pick(rows, "accuracy", arm=name, step="0")
        assert first == pick(rows, "accuracy", arm="none", step="0")  # all begin as the plain network
        assert first[0] == 1


def test_states_that_run_away_have_no_distance_and_no_answer(results: Results) -> None:
    rows = [row for row in read(distances_csv(results)) if row["arm"] == "runaway" and row["step"] == "3"]
    assert {row["distance"] for row in rows if row["node"] == "(scores)"} == {""}
    assert pick(read(study_csv(results)), "accuracy", arm="runaway", step="3") == [0.0] * 3


def test_what_nothing_has_trained_is_named(results: Results, tmp_path: Path) -> None:
    chain = ["e1->input", "e2->e1", "e3->e2"]
    assert untrained(results.plan.arms) == {"long": ["e3->e1"], "runaway": chain}
    assert untrained(planned(tmp_path).arms) == {}


def test_no_distances_unless_asked_for(tmp_path: Path, bank: Path, results: Results) -> None:
    evaluated = {name: value for name, value in EVALUATED.items() if name != "distances"}
    plan = study_of(tmp_path, bank, evaluate=evaluated)
    assert not {cell.key for cell in plan.cells} & {cell.key for cell in results.plan.cells}
    store = CellStore(tmp_path / "cells")
    run_cells(plan.cells, store, workers=1)
    assert len(distances_csv(Results(plan, store)).splitlines()) == 1
    assert study_csv(Results(plan, store)) == study_csv(results)


def test_as_many_images_as_the_analysis_asks_for(tmp_path: Path, bank: Path) -> None:
    asked = {"stability": {"images": 3, "steps": 8}}
    plan = study_of(tmp_path, bank, arms={"chain": "chain", "none": "none"}, analyses=asked)
    store = CellStore(tmp_path / "cells")
    run_cells(plan.cells, store, workers=1)
    rows = read(stability_csv(Results(plan, store)))
    assert [row["images"] for row in rows] == ["3", "3"]
