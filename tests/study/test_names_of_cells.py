"""What a cell depends on is in its name; what is learned from is neither measured nor held out."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import pcgraph as pcg
from pcgraph.datasets import image_keys, open_data, split
from pcgraph.study import Arms, Cell, CellStore, Plan
from pcgraph.study.comparisons import comparisons
from pcgraph.study.file import load_study
from pcgraph.study.statistics import difference
from pcgraph.study.work import PREDICTORS, Worker
from tests.study.files import EVALUATE, TRAIN, planned, written

ONE = {"arms": {"chain": "chain"}, "seeds": 1}


def measured(plan: Plan, arm: str) -> list[str]:
    return [one.cell.key for one in plan.measures if one.arm == arm]


def test_the_tuning_takes_its_own_images(tmp_path: Path) -> None:
    tune = {"data": "digits:train:500-699", "epochs": 1}
    cells = planned(tmp_path, **ONE, tune=tune).cells
    assert {cell.kind: cell.content["data"] for cell in cells} == {
        "train": "digits:train:0-299",
        "tune": "digits:train:500-699",
        "measure": "digits",
    }
    cells = planned(
        tmp_path, **ONE, tune={"epochs": 1}
    ).cells  # the base says 'digits'; the file's own counts more
    assert next(cell for cell in cells if cell.kind == "tune").content["data"] == "digits:train:0-299"


def test_no_image_that_the_tuning_learned_from_chooses_a_step(tmp_path: Path) -> None:
    train, tune = (
        {**TRAIN, "validation": 0.4},
        {"data": "digits:train:100-399", "validation": 0.2, "epochs": 1},
    )
    plan = planned(
        tmp_path, **ONE, train=train, tune=tune, evaluate={**EVALUATE, "step": "held_out", "limit": None}
    )
    content = next(one.cell.content for one in plan.measures if one.part == "held_out")
    found = image_keys(Worker().images(content))
    learned = set()
    for data, share in (("digits:train:0-299", 0.4), ("digits:train:100-399", 0.2)):
        images = open_data(data, "train", shape=(1, 28, 28))
        learned |= set(image_keys(split(images, share, 0)[0]))
    assert 0 < len(found) < 120
    assert learned.isdisjoint(found)


def test_first_weights_that_stay_as_they_were_drawn_differ_from_seed_to_seed(tmp_path: Path) -> None:
    plan = planned(tmp_path, train=None, seeds=3, arms={"none": "none", "chain": "chain"})
    assert len(set(measured(plan, "chain"))) == 6  # seeds times conditions
    assert len(set(measured(plan, "none"))) == 2


def test_arms_that_train_longer_are_trained_longer(tmp_path: Path) -> None:
    plan = planned(tmp_path, **ONE, grid={"arm": "chain", "train.epochs": [1, 2, 3]})
    trained = {one.arm: one.cell.needs[0] for one in plan.measures}
    assert {arm: cell.content["spec"]["train"]["epochs"] for arm, cell in trained.items()} == {
        "chain": 1,
        "chain[epochs=1]": 1,
        "chain[epochs=2]": 2,
        "chain[epochs=3]": 3,
    }
    assert trained["chain"].key == trained["chain[epochs=1]"].key


def test_an_edited_mask_is_another_cell(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.ones((6, 16)))
    edge = {"source": "e2", "target": "e1", "mask": "m.npy"}
    edge["predictor"] = [{"ConvTranspose2d": {"kernel_size": 4, "stride": 2, "padding": 1}}]
    shape = planned(tmp_path, **ONE).arms.graph.nodes
    np.save(tmp_path / "m.npy", np.ones((shape["e1"].shape[0], shape["e2"].shape[0])))
    given = {"arms": {"a": [edge]}, "seeds": 1}
    before = planned(tmp_path, **given)
    assert before.arms.wirings[0].edges[0].mask.file == str(tmp_path / "m.npy")  # wherever a worker runs
    matrix = np.ones((shape["e1"].shape[0], shape["e2"].shape[0]))
    matrix[0] = 0
    np.save(tmp_path / "m.npy", matrix)
    after = planned(tmp_path, **given)
    assert {cell.key for cell in before.cells}.isdisjoint(cell.key for cell in after.cells)


def test_edited_code_is_another_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from torch import nn\n\ndef up(source, target):\n    layers = nn.Conv2d(source[0], target[0], 1),"
    code += " nn.Upsample(size=target[1:])\n    return nn.Sequential(*layers)\n"
    (tmp_path / "own_predictor.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    file = written(
        tmp_path,
        arms={"a": [{"source": "e2", "target": "e1", "predictor": "python:own_predictor:up"}]},
        seeds=1,
    )
    found = []
    for text in (code, code + "# as before, but for this\n"):
        (tmp_path / "own_predictor.py").write_text(text)
        given = load_study(file)
        found.append({cell.key for cell in Plan(given, Arms(given, trust=True)).cells})
    assert found[0].isdisjoint(found[1])


def test_the_version_of_torch_is_part_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Cell("train", {"x": 1}).key
    monkeypatch.setattr(torch, "__version__", "9.0")
    assert Cell("train", {"x": 1}).key != before


@pytest.mark.parametrize("damage", ["other cell", "no seal", "no files", "a list", "a file"])
def test_what_is_not_the_cell_is_made_again(tmp_path: Path, damage: str) -> None:
    store, cell, other = CellStore(tmp_path), Cell("train", {"x": 1}), Cell("train", {"x": 2})
    store.write(other, {"a": b"2"})
    if damage == "other cell":
        (tmp_path / other.key).rename(tmp_path / cell.key)
    elif damage == "a file":
        (tmp_path / cell.key).write_text("x")
    else:
        store.write(cell, {"a": b"1"})
        record = tmp_path / cell.key / "cell.json"
        values = json.loads(record.read_text())
        changed: Any = {
            "no seal": {k: v for k, v in values.items() if k != "sha256"},
            "no files": {"files": {}},
            "a list": [],
        }
        record.write_text(json.dumps(changed[damage]))
    assert store.done([cell]) == set()
    store.write(cell, {"a": b"1"})
    assert store.read(cell.key) == {"a": b"1"}


def test_a_pair_that_is_asked_for_twice_counts_once(tmp_path: Path) -> None:
    """Holm by hand, and Bonferroni's number; [chain, a] is 'a less chain' the other way round."""
    rng = np.random.default_rng(0)
    right = {
        name: rng.random((5, 200)) < level
        for name, level in {"chain": 0.5, "a": 0.8, "b": 0.55, "bad": 0.5}.items()
    }
    arms = SimpleNamespace(wirings=[SimpleNamespace(name=name) for name in right])
    study = SimpleNamespace(contrasts=[["chain", "a"], ["a", "b"]])
    results: Any = SimpleNamespace(
        plan=SimpleNamespace(study=study, arms=arms, unseen=[], robust=["gaussian:1"]),
        reference="chain",
        right=lambda arm, _: None if arm == "bad" else right[arm],
    )
    found = {(one.first, one.second): one for one in comparisons(results)}
    assert list(found) == [("a", "chain"), ("b", "chain"), ("chain", "a"), ("a", "b")]
    p = {
        pair: difference(right[pair[0]], right[pair[1]]).p_value()
        for pair in (("a", "chain"), ("b", "chain"), ("a", "b"))
    }
    first, second, third = sorted(p, key=lambda pair: p[pair])
    by_hand = {first: 3 * p[first]}
    by_hand[second] = max(by_hand[first], 2 * p[second])
    by_hand[third] = max(by_hand[second], p[third])
    for pair, value in by_hand.items():
        assert found[pair].p == pytest.approx(min(1.0, value))
        assert found[pair].interval == difference(right[pair[0]], right[pair[1]]).interval(comparisons=3)
    assert found["chain", "a"].p == found["a", "chain"].p


@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.heavy), 3])
@pytest.mark.parametrize("feedback", ["chain", "dense", [{"source": "e3", "target": "e1"}]])
def test_an_arm_is_the_network_that_build_makes_of_its_spec_and_weights(
    tmp_path: Path, feedback: Any, seed: int
) -> None:
    """With `error: auto`, which depends on the weights and on the states at the start."""
    arms = {"dense": "dense", "a": {"feedback": feedback, "spec": {"dynamics": {"error": "auto"}}}}
    spec = next(one.spec for one in planned(tmp_path, arms=arms).arms.wirings if one.name == "a")
    trained = pcg.build(planned(tmp_path, arms=arms).arms.wirings[0].spec, seed=7)
    for parameter in trained.predictors.parameters():
        parameter.data.mul_(1.7)
    file = tmp_path / PREDICTORS
    trained.save_weights(file)
    found = Worker()._network(spec, {"seed": seed}, [{PREDICTORS: file.read_bytes()}])
    expected = pcg.build({**spec.dump(), "weights": {"file": str(file), "strict": False}}, seed=seed)
    assert found.dynamics.gains(2).source == expected.dynamics.gains(2).source
    image = torch.rand(2, 1, 28, 28)
    outputs = [pcg.Scheduler(one).run(image, steps=3, record=["output"]).output for one in (found, expected)]
    assert all(one.equal(other) for one, other in zip(*outputs, strict=True))


def test_an_arm_that_stands_below_can_be_shuffled(tmp_path: Path) -> None:
    arms = {"s": {"shuffle": {"of": "long"}}, "long": ["chain", {"source": "e3", "target": "input"}]}
    assert [one.name for one in planned(tmp_path, arms=arms).arms.wirings] == ["s", "long"]


def test_points_of_fields_that_end_alike_have_names_of_their_own(tmp_path: Path) -> None:
    fields = [f"dynamics.nodes.{node}.feedback" for node in ("e1", "e2")]
    grid = [{"arm": "chain", field: [0.1234567, 0.1234568]} for field in fields]
    names = [one.name for one in planned(tmp_path, **ONE, grid=grid).arms.wirings]
    assert names[1:] == [f"chain[{field}={value}]" for field in fields for value in (0.1234567, 0.1234568)]
