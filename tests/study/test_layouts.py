"""A study's networks lie channels-last where that is faster; such cells are others, with the same results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

import pcgraph as pcg
from pcgraph.acceleration.trial import Trial
from pcgraph.cli import app
from pcgraph.study import Arms, CellStore, Plan, run_cells
from pcgraph.study import layouts as module
from pcgraph.study.cells import CHANNELS_LAST
from pcgraph.study.layouts import Layouts
from pcgraph.study.work import MEASURED, PREDICTORS, TUNED, is_channels_last
from tests.study.files import EVALUATE, TRAIN, planned, study, written

TUNE = {**TRAIN, "learns": ["dynamics"], "noise": {"gaussian": [0, 1]}, "steps": [2, 2]}


@pytest.fixture
def channels_last_is_faster(monkeypatch: pytest.MonkeyPatch) -> list[Trial[Any]]:
    """The second way that is measured is the faster one; gives what was measured."""
    trials: list[Trial[Any]] = []

    def seconds(trial: Trial[Any], taken: Any) -> float:
        trials.extend([] if trial in trials else [trial])
        return 0.5 if hasattr(trial, "best") else 1.0

    monkeypatch.setattr(Trial, "_seconds", seconds)
    return trials


def laid_out(folder: Path, *kinds: str, **changes: Any) -> Plan:
    """A plan whose cells of these kinds are channels-last."""

    def layout(kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
        return dict(CHANNELS_LAST) if kind in kinds else {}

    given = study(folder, **changes)
    return Plan(given, Arms(given), layout=layout)


def names(plan: Plan, kind: str, arm: str = "") -> set[str]:
    if kind == "measure":
        return {one.cell.key for one in plan.measures if one.arm == arm}
    return {cell.key for cell in plan.cells if cell.kind == kind}


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["train", "tune"])
def test_what_is_computed_otherwise_has_another_name(tmp_path: Path, kind: str) -> None:
    tune = TUNE if kind == "tune" else None
    plain = planned(tmp_path, tune=tune)
    other = laid_out(tmp_path, kind, tune=tune)
    assert names(other, kind).isdisjoint(names(plain, kind))
    for arm in ("chain", "dense"):  # measured as ever, after another training
        assert names(other, "measure", arm).isdisjoint(names(plain, "measure", arm))
    assert names(other, "measure", "none") == names(plain, "measure", "none")
    other = laid_out(tmp_path, "measure", tune=tune)
    assert names(other, "train") == names(plain, "train")
    assert names(other, "measure", "chain").isdisjoint(names(plain, "measure", "chain"))


@pytest.mark.heavy
def test_results_are_the_same_up_to_rounding(tmp_path: Path) -> None:
    controls = {"plain": {"learns": "backbone", "like": "chain"}}
    how: dict[str, Any] = {"tune": TUNE, "arms": {"chain": "chain"}, "controls": controls, "seeds": 1}
    files = []
    for place, kinds in enumerate(((), ("train", "tune", "control", "measure"))):
        plan, store = laid_out(tmp_path, *kinds, **how), CellStore(tmp_path / str(place))
        run_cells(plan.cells, store)
        files.append([(cell.kind, store.read(cell.key)) for cell in plan.cells])
    assert len(files[0]) == len(files[1]) > 5
    for (kind, plain), (_, fast) in zip(*files, strict=True):
        if PREDICTORS in plain:
            learned = load(fast[PREDICTORS])
            for name, value in load(plain[PREDICTORS]).items():
                torch.testing.assert_close(learned[name], value, rtol=1e-3, atol=1e-4)
        if kind == "tune":
            tuned, expected = (json.loads(one[TUNED])["nodes"] for one in (fast, plain))
            for node, gains in expected.items():
                assert tuned[node] == pytest.approx(gains, rel=1e-4, abs=1e-6)
        if kind == "measure":
            answers = [load(one[MEASURED])["answers"] for one in (fast, plain)]
            assert float((answers[0] == answers[1]).float().mean()) > 0.98


@pytest.mark.heavy
def test_each_wiring_is_measured_once(
    tmp_path: Path, channels_last_is_faster: list[Trial[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCGRAPH_CACHE", str(tmp_path / "cache"))
    controls = {"plain": {"learns": "backbone", "like": "chain"}}
    noisy = {**EVALUATE, "noise": {"gaussian": [0.5, 1.0]}}
    arms = {"none": "none", "chain": "chain"}
    given = study(tmp_path, seeds=3, arms=arms, tune=TUNE, controls=controls, evaluate=noisy)
    found = Layouts(tmp_path / "layouts.json")
    plan = Plan(given, Arms(given), layout=found)
    assert len(channels_last_is_faster) == 5  # training, tuning, control, and two measured wirings
    usual = [one.content for one in plan.cells if not is_channels_last(one.content)]
    assert all("size" in content and "condition" in content for content in usual)  # of the control
    assert str(found).startswith("channels-last for 5 of 5 kinds of cells (0.50 to 0.50 of the time)")
    monkeypatch.setattr(module, "_trial", None)
    again = Layouts(tmp_path / "layouts.json")
    assert [cell.key for cell in Plan(given, Arms(given), layout=again).cells] == [c.key for c in plan.cells]
    assert "5 of them known from before" in str(again)
    (tmp_path / "layouts.json").write_text(found.text())
    monkeypatch.setenv("PCGRAPH_CACHE", "0")  # the study's own folder knows, wherever it goes on
    again = Layouts(tmp_path / "layouts.json")
    assert [cell.key for cell in Plan(given, Arms(given), layout=again).cells] == [c.key for c in plan.cells]


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}'])
def test_a_damaged_file_of_choices_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "layouts.json").write_text(text)
    with pytest.raises(pcg.InputError, match=r"layouts\.json.* (cannot be read|holds no layouts)"):
        Layouts(tmp_path / "layouts.json")


@pytest.mark.heavy
def test_the_command(
    tmp_path: Path,
    channels_last_is_faster: list[Trial[Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PCGRAPH_CACHE", "0")
    file = written(tmp_path, arms={"chain": "chain"}, seeds=1)
    out = tmp_path / "out"
    command = ["study", str(file), "--out", str(out), "--workers", "1"]

    def run(*words: str) -> str:
        with pytest.raises(SystemExit, match="0"):
            app([*command, *words])
        return capsys.readouterr().err

    assert "Fastest: channels-last for 2 of 2 kinds of cells" in run("--fast")
    cells = sorted((out / "cells").iterdir())
    assert "2 of them known from before" in run("--fast")  # and nothing is measured or computed again
    assert sorted((out / "cells").iterdir()) == cells


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        (["--on", "tcp://127.0.0.1:1"], {}, "--fast measures this machine, and --on computes on others"),
        (
            [],
            {"search": {"arm": "found", "trials": 2, "edges": [{"source": "e2", "target": "e1"}]}},
            "--fast measures each wiring first, and a search finds its wirings on the way",
        ),
    ],
)
def test_what_it_cannot_do_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    changes: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(SystemExit, match="2"):
        app(["study", str(written(tmp_path, **changes)), "--fast", *options])
    assert message in capsys.readouterr().err
