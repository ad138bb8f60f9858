"""Cells: what names them, what they share, and that sharing changes no number."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load

from pcgraph.study import Arms, Cell, CellStore, Plan, Results, load_study, run_cells
from pcgraph.study.results import study_csv
from pcgraph.study.work import FAILED, MEASURED, PREDICTORS, Worker
from tests.study.files import EVALUATE, TRAIN, planned, written


def keys(plan: Plan, kind: str) -> set[str]:
    return {cell.key for cell in plan.cells if cell.kind == kind}


def test_one_training_a_seed_serves_all_arms(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert len(keys(plan, "train")) == 2
    assert len(keys(planned(tmp_path, train={**TRAIN, "edges": "own"}), "train")) == 4  # not of 'none'


def test_edges_with_other_predictors_are_other_edges(tmp_path: Path) -> None:
    arms = {"a": "chain", "b": ["chain", {"source": "e3", "target": "e2", "predictor": ["ConvTranspose2d"]}]}
    arms["b"][1]["predictor"] = [{"ConvTranspose2d": {"kernel_size": 4, "stride": 2, "padding": 1}}]
    plan = planned(tmp_path, arms=arms)
    assert len(keys(plan, "train")) == 4


@pytest.mark.heavy
def test_an_arm_gets_the_weights_of_its_own_edges_where_others_have_edges_of_these_names(
    tmp_path: Path,
) -> None:
    """Two activations, whose weights have the same shapes: each arm of the four combinations, as if alone."""
    up = {"ConvTranspose2d": {"kernel_size": 4, "stride": 2, "padding": 1}}
    top, low = (
        [{"source": source, "target": target, "predictor": [up, act]} for act in ("ReLU", "Tanh")]
        for source, target in (("e3", "e2"), ("e2", "e1"))
    )
    arms = {"a": [top[0], low[0]], "b": [top[1], low[1]], "c": [top[0], low[1]], "d": [top[1], low[0]]}
    weights = []
    for edges in ("union", "own"):
        plan = planned(tmp_path, arms=arms, train={**TRAIN, "edges": edges}, seeds=1)
        trained = {cell.key: Worker()(cell.kind, cell.content, []) for cell in plan.cells if not cell.needs}
        of_arms = {one.arm: [trained[cell.key] for cell in one.cell.needs] for one in plan.measures}
        specs = {one.name: one.spec for one in plan.arms.wirings}
        weights.append(
            {arm: Worker()._network(specs[arm], {"seed": 0}, of_arms[arm]).predictors for arm in arms}
        )
    for arm in arms:
        union, own = (found[arm].state_dict() for found in weights)
        assert all(union[name].equal(own[name]) for name in own)


def test_a_network_without_training_is_measured_once(tmp_path: Path) -> None:
    plan = planned(tmp_path, arms={"none": "none"}, train=None, seeds=5)
    assert len(plan.measures) == 10
    assert len(plan.cells) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": 3},
        {"arms": {"none": "none", "chain": "chain", "dense": "dense", "input": "to_input"}},
        {
            "arms": {
                "new": [{"source": "e3", "target": "e3"}],
                "none": "none",
                "chain": "chain",
                "dense": "dense",
            }
        },
        {
            "arms": {
                "none": "none",
                "chain": "chain",
                "dense": "dense",
                "up": [{"source": "e1", "target": "e3"}],
            }
        },
        {"evaluate": {**EVALUATE, "noise": {"gaussian": [0.5, 1.0]}}},
        {"study": "another name"},
        {"reference": "dense"},
    ],
)
def test_what_is_added_leaves_the_others_their_names(tmp_path: Path, changes: dict[str, Any]) -> None:
    before, after = planned(tmp_path), planned(tmp_path, **changes)
    measured = {cell.key for cell in before.cells if cell.kind == "measure"}
    trained = keys(before, "train")
    assert measured <= keys(after, "measure")
    if not {"new", "up"} & set(changes.get("arms", ())):  # a new edge is trained with the others
        assert trained <= keys(after, "train")


@pytest.mark.parametrize(
    "changes",
    [
        {"train": {**TRAIN, "epochs": 2}},
        {"share": {"error": "source"}},
        {"evaluate": {**EVALUATE, "steps": 3}},
        {"evaluate": {**EVALUATE, "seed": 1}},
        {"evaluate": {**EVALUATE, "limit": 41}},
    ],
)
def test_what_changes_a_number_changes_the_name(tmp_path: Path, changes: dict[str, Any]) -> None:
    before, after = planned(tmp_path), planned(tmp_path, **changes)
    of_arms = {one.cell.key for one in before.measures if one.arm != "none"}
    assert of_arms.isdisjoint({cell.key for cell in after.cells})


def test_a_place_is_no_part_of_a_name(tmp_path: Path) -> None:
    """The same base, with its weights in another folder."""
    import pcgraph as pcg

    found = []
    for name in ("here", "there"):
        folder = tmp_path / name
        folder.mkdir()
        pcg.build("digits").save_weights(folder / "w.safetensors")
        (folder / "base.yaml").write_text("extends: digits\nname: d\nweights: ./w.safetensors\n")
        found.append(planned(folder, base="base.yaml", reset=[], train=None, arms={"a": {}}).cells)
    assert [cell.key for cell in found[0]] == [cell.key for cell in found[1]]


@pytest.mark.heavy
def test_the_union_trains_each_edge_as_if_it_were_alone(tmp_path: Path) -> None:
    """Bit for bit, the answers of the arms too."""
    worker = Worker()
    weights: dict[str, dict[str, Any]] = {}
    trained: dict[str, Any] = {}
    for edges in ("union", "own"):
        plan = planned(tmp_path, train={**TRAIN, "edges": edges}, seeds=[7])
        for one in plan.measures:
            for cell in one.cell.needs:
                if cell.key not in trained:
                    trained[cell.key] = worker(cell.kind, cell.content, [])
            needs = [trained[cell.key] for cell in one.cell.needs]
            for files in needs:
                for name, tensor in load(files[PREDICTORS]).items():
                    weights.setdefault(f"{one.arm} {name}", {})[edges] = tensor
            answers = load(worker("measure", one.cell.content, needs)[MEASURED])["answers"]
            weights.setdefault(f"{one.arm} {one.condition}", {})[edges] = answers
    both = {name: found for name, found in weights.items() if len(found) == 2}
    assert len(both) == 6 + 6 + 12  # three arms under two conditions; two tensors of 3 and of 6 edges
    for name, found in both.items():
        assert found["union"].equal(found["own"]), name


@pytest.mark.heavy
def test_a_study_that_was_stopped_goes_on_and_damaged_cells_are_made_again(tmp_path: Path) -> None:
    plan = planned(tmp_path, seeds=1)
    store = CellStore(tmp_path / "cells")
    run_cells(plan.cells, store)
    whole = study_csv(Results(plan, store))
    made = sorted(path.name for path in store.folder.iterdir())
    assert made == sorted(cell.key for cell in plan.cells)
    shutil.rmtree(store.folder / plan.cells[-1].key)
    trained = next(cell for cell in plan.cells if cell.kind == "train")
    damaged = store.folder / trained.key / PREDICTORS
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    assert trained.key not in store.done(plan.cells)
    assert damaged.exists()  # to ask, as --plan does, removes nothing
    done: list[int] = []
    run_cells(plan.cells, store, advance=done.append)
    assert done[0] == len(plan.cells) - 2
    assert study_csv(Results(plan, store)) == whole


@pytest.mark.parametrize("batch", [100, 300])
def test_a_training_that_runs_away_is_a_result(tmp_path: Path, batch: int) -> None:
    """At its next batch, or after the only one."""
    train = {**TRAIN, "batch": batch, "optimizer": {"name": "SGD", "lr": 1e30}}
    plan = planned(tmp_path, seeds=1, train=train)
    store = CellStore(tmp_path / "cells")
    run_cells(plan.cells, store)
    results = Results(plan, store)
    assert results.failures("chain") == 1
    assert results.failures("none") == 0
    rows = {(row.arm, row.noise): row for row in results.rows() if row.step == 0}
    assert "not finite" in rows["chain", "clean"].failed
    assert rows["none", "clean"].accuracy > 0.9
    assert FAILED in store.read(next(one.cell.key for one in plan.measures if one.arm == "chain"))


def test_needs_come_first_and_once() -> None:
    from pcgraph.study.cells import in_order

    a = Cell("train", {"x": 1})
    b, c = Cell("tune", {"x": 2}, (a,)), Cell("measure", {"x": 3}, (a,))
    d = Cell("measure", {"x": 4}, (b, Cell("train", {"x": 1})))
    assert [cell.key for cell in in_order([d, c])] == [a.key, b.key, d.key, c.key]


@pytest.mark.heavy
def test_the_same_file_whatever_computes_it(tmp_path: Path) -> None:
    files = []
    for workers in (1, 2):
        given = load_study(written(tmp_path))
        plan = Plan(given, Arms(given))
        store = CellStore(tmp_path / f"cells{workers}")
        run_cells(plan.cells, store, workers=workers)
        files.append(study_csv(Results(plan, store)))
    assert files[0] == files[1]
