"""What is wrong with a study file is said, at its place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import pcgraph as pcg
from pcgraph.study import Arms, Plan, load_study
from tests.study.files import EVALUATE, TRAIN, study, written


def plan(path: Path) -> Plan:
    given = load_study(path)
    return Plan(given, Arms(given))


@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        ({"armz": {}}, "armz", "unknown field 'armz'"),
        ({"arms": {}}, "arms", "expected at least one"),
        ({"arms": {"a b": "chain"}}, "arms.a b", "cannot name an arm"),
        ({"seeds": 0}, "seeds", "0"),
        ({"seeds": [1, 1]}, "seeds", "a seed is given twice"),
        ({"evaluate": {"nois": {}}}, "evaluate.nois", "unknown field 'nois'"),
        ({"evaluate": {"noise": {"gauss": [1.0]}}}, "evaluate.noise.gauss", "unknown noise 'gauss'"),
        ({"evaluate": {"step": "best"}}, "evaluate.step", "best"),
        ({"evaluate": {**EVALUATE, "right": "labels"}}, "evaluate.right", "agreement"),
        (
            {
                "arms": {"a": {"feedback": "chain", "spec": {"schedule": {"initial": "zeros"}}}},
                "evaluate": {**EVALUATE, "right": "agreement"},
            },
            "evaluate.right",
            "first states of 'a'",
        ),
        ({"analyses": {"stability": {"image": 2}}}, "analyses.stability.image", "Did you mean 'images'?"),
        ({"analyses": {"stability": {"images": 0}}}, "analyses.stability.images", "more than 0, got 0"),
        ({"analyses": {"stability": {"steps": 7}}}, "analyses.stability.steps", "at least 8"),
        ({"analyses": ["telepathy"]}, "analyses", "telepathy"),
        ({"reference": "chian"}, "reference", "there is no arm 'chian'"),
        ({"contrasts": [["chain", "dens"]]}, "contrasts[0][1]", "there is no arm 'dens'"),
        ({"lesions": {"of": "dens", "each": "edge"}}, "lesions.of", "there is no arm 'dens'"),
        ({"grid": {"arm": "slow", "delay": [1]}}, "grid.arm", "there is no arm 'slow'"),
        ({"reset": ["weigths"]}, "reset[0]", "the base has no field 'weigths'"),
        ({"base": "digit"}, "base", "no shipped spec is called 'digit'"),
        ({"base": "missing.yaml"}, "base", "no such file"),
        ({"arms": {"a": {"random": {"edges": 2, "draws": 10**9}}}}, "arms.a.random.draws", "at most 1000"),
        ({"arms": {"a": {"shuffle": {"of": "b", "draws": 1001}}}}, "arms.a.shuffle.draws", "at most 1000"),
        (
            {"grid": {"arm": "chain", "delay": [*range(1, 99)], "gain": [0.1] * 99}},
            "grid",
            "9702 combinations",
        ),
        ({"arms": {"a": {"random": {"edges": 99}}}}, "arms.a.random.edges", "there are 6"),
        ({"arms": {"a": {"random": {"edges": 2}, "feedback": "chain"}}}, "arms.a", "one of"),
        (
            {"arms": {"a": ["chain", {"source": "e9", "target": "e1"}]}},
            "arms.a[1].source",
            "unknown node 'e9'",
        ),
        ({"arms": {"a": "chian"}}, "arms.a", "unknown pattern 'chian'"),
        (
            {"arms": {"a": {"feedback": "chain", "spec": {"schedule": {"steps": -1}}}}},
            "arms.a.spec.schedule.steps",
            "schedule.steps",
        ),
        ({"train": {"epochs": 0}}, "train.epochs", "epochs"),
        ({"seeds": 10**9}, "seeds", "at most 1000 repetitions"),
        ({"base": "pc_memory", "reset": []}, "base", "no backbone"),
        ({"contrasts": [["dense", "dense"]]}, "contrasts[0]", "compared with itself"),
        ({"contrasts": [["dense", "none"], ["dense", "none"]]}, "contrasts[1]", "is there twice"),
        ({"lesions": {"of": "none"}}, "lesions.of", "has no feedback edge"),
        ({"grid": {"arm": "none", "delay": [1]}}, "grid.delay", "has no feedback edges"),
        ({"grid": {"arm": "chain", "delay": [-1]}}, "grid.delay", "at least 0"),
        ({"grid": {"arm": "chain", "dynamics.feedbak": [0.1]}}, "grid.dynamics.feedbak", "unknown field"),
        ({"grid": {"arm": "chain", "backbone.model": ["a"]}}, "grid.backbone.model", "same in all arms"),
        ({"grid": {"arm": "chain", "weights": ["a"]}}, "grid.weights", "a study that trains"),
        ({"grid": {"arm": "chain", "tune.epochs": [1]}}, "grid.tune.epochs", "this study has no 'tune'"),
        (
            {"reset": ["weights"], "grid": {"arm": "chain", "dynamics.feedback": [0.1]}},
            "grid.dynamics.feedback",
            "changes nothing",
        ),
        (
            {"reset": ["weights", "dynamics.nodes"], "grid": {"arm": "none", "dynamics.feedback": [0.1]}},
            "grid.dynamics.feedback",
            "there is no feedback",
        ),
        (
            {"reset": ["weights", "dynamics.nodes"], "grid": {"arm": "none", "dynamics.error": [0.1]}},
            "grid.dynamics.error",
            "there is no feedback",
        ),
        ({"evaluate": {**EVALUATE, "noise": {"gaussian": []}}}, "evaluate.noise.gaussian", "at least one"),
        ({"evaluate": {**EVALUATE, "unseen": {"blur": []}}}, "evaluate.unseen.blur", "at least one"),
        (
            {"evaluate": {**EVALUATE, "corruptions": {"names": ["fog"], "severities": []}}},
            "evaluate.corruptions.severities",
            "at least one",
        ),
        ({"train": {**TRAIN, "steps": 3}}, "train.steps", "this is task 'feedback'"),
        (
            {"arms": {"a": {"feedback": "chain", "spec": {"train": {"save_memory": True}}}}},
            "arms.a.spec.train.save_memory",
            "this is task 'feedback'",
        ),
        ({"arms": {"a": {"spec": {"nodes": {"e1": "relu2"}}}}}, "arms.a.spec.nodes", "same in all arms"),
        ({"arms": {"a": {"spec": {"train": {"data": "digits"}}}}}, "arms.a.spec.train", "same in all arms"),
        (
            {"train": None, "arms": {"a": {"spec": {"weights": "no.safetensors"}}}},
            "arms.a.spec.weights",
            "no",
        ),
        (
            {"arms": {"a": [{"source": "e2", "target": "e1", "predictor": "python:x:y"}]}},
            "arms.a[0].predictor",
            "trust",
        ),
        ({"evaluate": {**EVALUATE, "step": 3}}, "evaluate.step", "step 3 of 2"),
        ({"evaluate": {**EVALUATE, "limit": 1001}}, "evaluate.limit", "1001 of 1000 images"),
        ({"evaluate": {**EVALUATE, "data": "photos"}}, "evaluate.data", "no classes"),
        ({"evaluate": {**EVALUATE, "data": "digits:train"}}, "evaluate.data", "learns from 300 of"),
        ({"evaluate": {"limit": 40}}, "train.data", "learns from 300 of"),
        ({"evaluate": {**EVALUATE, "noise": {"salt_pepper": [0.1, 2.0]}}}, "evaluate.noise", "a share"),
        (
            {"evaluate": {**EVALUATE, "corruptions": {"names": ["fog"]}}},
            "evaluate.corruptions",
            "at least 32 x 32",
        ),
        (
            {"train": {**TRAIN, "validation": 0}, "evaluate": {**EVALUATE, "step": "held_out"}},
            "evaluate.step",
            "holds no images",
        ),
        ({"train": {**TRAIN, "task": "through_time"}}, "train.task", "would train the backbone"),
        ({"reset": ["wieghts"]}, "reset", "Did you mean 'weights'"),
        ({"reset": ["weights", "dynamics.nods"]}, "reset", "Did you mean 'dynamics.nodes'"),
        ({"reset": ["dynamic.nodes"]}, "reset", "Did you mean 'dynamics.nodes'"),
        ({"tune": {"epoch": 1}}, "tune.epoch", "Did you mean 'epochs'?"),
        ({"tune": {"noise": {"gausian": 1.0}}}, "tune.noise.gausian", "Did you mean 'gaussian'?"),
        ({"train": {"edges": "one"}}, "train.edges", "expected 'union' or 'own'"),
        ({"train": {"edges": "union", "clip": 1.0}}, "train.edges", "'clip' limits the gradient"),
    ],
)
def test_a_fault_has_its_place(tmp_path: Path, changes: dict[str, Any], where: str, message: str) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(pcg.SpecError) as caught:
        plan(path)
    fault = caught.value.faults[0]
    assert message in str(fault)
    assert fault.where.startswith(f"{path}:")
    line = path.read_text().splitlines()[int(fault.where.split(":")[1]) - 1]
    last = where.replace("]", "").replace("[", ".").split(".")
    named = [part for part in last if not part.isdigit()] + re.findall(r"'([^']+)'", fault.message)
    assert any(word in line for word in named)


def test_all_fields_that_cannot_be_reset_are_told(tmp_path: Path) -> None:
    with pytest.raises(pcg.SpecError) as caught:
        plan(written(tmp_path, reset=["wieghts", "dynamics.nodes", "scedule"]))
    assert [fault.path for fault in caught.value.faults] == [("reset", 0), ("reset", 2)]


def test_no_file_and_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(pcg.SpecError, match="no such file"):
        load_study(tmp_path / "no.yaml")
    (tmp_path / "bad.yaml").write_text("study: [")
    with pytest.raises(pcg.SpecError, match=r"bad\.yaml:"):
        load_study(tmp_path / "bad.yaml")


def test_short_forms(tmp_path: Path) -> None:
    given = study(tmp_path, seeds=[3, 5], arms={"a": "chain", "b": ["chain"], "c": {"feedback": "chain"}})
    assert given.seeds == [3, 5]
    wirings = Arms(given).wirings
    assert [one.name for one in wirings] == ["a", "b", "c"]
    assert wirings[0].edges == wirings[1].edges == wirings[2].edges
