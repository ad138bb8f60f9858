"""Any sampler of Optuna proposes: alike every time, and with regard to what it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import pcgraph as pcg
from pcgraph.study import load_study
from pcgraph.study.samplers import Sampler
from tests.study.files import written

pytestmark = pytest.mark.heavy
VALUES = list(range(6))
GRID = {"GridSampler": {"search_space": {"x": VALUES, "there": [False, True]}}}


def sampler(folder: Path, given: Any, **changes: Any) -> Sampler:
    """One that draws a number, a switch, and with the switch another number."""
    search = {"trials": 1, "edges": "all", "sampler": given, **changes}

    def draw(trial: Any) -> dict[str, Any]:
        found = {"x": trial.suggest_categorical("x", VALUES)}
        found["there"] = trial.suggest_categorical("there", [False, True])
        if found["there"] and given != GRID:
            found["y"] = trial.suggest_float("y", 0.0, 1.0)
        return found

    return Sampler(load_study(written(folder, search=search)), draw)


def proposals(one: Sampler, count: int, objectives: int = 1, sign: int = 1) -> list[dict[str, Any]]:
    """In batches of four; best is x = 4 with the switch on and y = 0.3, every third is pruned or fails."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        for drawn, trial in [one.ask() for _ in range(4)]:
            worth = -abs(drawn["x"] - 4) - (abs(drawn["y"] - 0.3) if "y" in drawn else 2.0)
            if len(found) % 6 == 5:
                one.tell(trial, None, early=worth * sign)
            elif len(found) % 6 == 2:
                one.tell(trial, None)
            else:
                one.tell(trial, [worth * sign, *[float(drawn["x"])] * (objectives - 1)])
            found.append(drawn)
    return found


@pytest.mark.parametrize(
    "given",
    [
        "RandomSampler",
        "TPESampler",
        {"TPESampler": {"multivariate": True, "constant_liar": True}},
        "NSGAIISampler",
        {"NSGAIIISampler": {"population_size": 8}},
        "QMCSampler",
        "GPSampler",
        GRID,
    ],
    ids=str,
)
@pytest.mark.parametrize("objectives", [["accuracy"], ["accuracy", "multiply_adds"]])
def test_the_same_calls_give_the_same_proposals(given: Any, objectives: list[str], tmp_path: Path) -> None:
    one, two = (
        proposals(sampler(tmp_path, given, objectives=objectives), 12, len(objectives)) for _ in range(2)
    )
    assert one == two
    other = proposals(sampler(tmp_path, given, objectives=objectives, seed=1), 12, len(objectives))
    assert one != other


@pytest.mark.parametrize(("sign", "best"), [(1, 4), (-1, 0)])
def test_what_is_told_counts_and_its_direction(sign: int, best: int, tmp_path: Path) -> None:
    """Accuracies are to be large: of 40 proposals about 7 would be the best by chance."""
    late = [drawn["x"] for drawn in proposals(sampler(tmp_path, "TPESampler"), 80, sign=sign)[40:]]
    assert late.count(best) > 14


def test_every_proposal_is_made_once_and_then_none_is_left(tmp_path: Path) -> None:
    search = {"trials": 1, "edges": "all", "sampler": "BruteForceSampler"}

    def draw(trial: Any) -> dict[str, Any]:
        there = trial.suggest_categorical("there", [False, True])
        return {"there": there, **({"x": trial.suggest_categorical("x", VALUES)} if there else {})}

    one, found = Sampler(load_study(written(tmp_path, search=search)), draw), []
    while not one.exhausted:
        assert len(found) < 7
        drawn, trial = one.ask()
        found.append(drawn)
        one.tell(trial, None if drawn.get("x") == 2 else [0.5])  # one that fails counts, too
    expected = [{"there": False}, *({"there": True, "x": x} for x in VALUES)]
    assert sorted(found, key=str) == sorted(expected, key=str)


@pytest.mark.parametrize(
    ("given", "where", "message"),
    [
        ("TPSampler", "search.sampler", "no sampler 'TPSampler'"),
        ("BaseSampler", "search.sampler", "no sampler 'BaseSampler'"),
        ("samplers", "search.sampler", "no sampler 'samplers'"),
        ("PartialFixedSampler", "search.sampler", "cannot be used here"),
        ({"TPESampler": {"multi": True}}, "search.sampler.TPESampler.multi", "no option"),
        ({"TPESampler": {"seed": 3}}, "search.sampler.TPESampler.seed", "no option"),
        ("GridSampler", "search.sampler", "cannot be used here"),
        ({"QMCSampler": {"qmc_type": "x"}}, "search.sampler.QMCSampler", "cannot be used here"),
    ],
    ids=str,
)
def test_samplers_that_cannot_be_used(given: Any, where: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(pcg.SpecError) as caught:
        sampler(tmp_path, given)
    (fault,) = caught.value.faults
    assert ".".join(map(str, fault.path)) == where
    assert message in fault.message
    assert "study.yaml" in fault.where
