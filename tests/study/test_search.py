"""A search proposes wirings: the same ones every time, and the best of them is the best there is."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load

import pcgraph as pcg
from pcgraph.study import Arms, Cell, CellStore, Plan, load_study, run_cells
from pcgraph.study.cells import in_order
from pcgraph.study.trials import Trials
from pcgraph.study.work import MEASURED
from tests.study.files import EVALUATE, planned, study, written

TOP, LOW = {"source": "e3", "target": "e2"}, {"source": "e2", "target": "e1"}
SEED = 1_000_000
BRIEF = {"arms": {"chain": "chain"}, "seeds": 1}
"""So that a search is most of the study."""
SEARCH = {
    "trials": 6,
    "batch": 3,
    "edges": [TOP, LOW],
    "each": {"gain": {"low": 0.1, "high": 0.4}},
    "limit": 25,
}
RICH = {
    **SEARCH,
    "fields": {"dynamics.error": {"low": 0.001, "high": 0.1, "log": True}},
    "objectives": ["accuracy", "multiply_adds", "spectral_radius"],
    "prune": 0.6,
}


class StoppedError(Exception):
    """Of a search in between."""


def searched(
    folder: Path, store: CellStore, *, workers: int = 1, at_most: int | None = None
) -> tuple[str, int]:
    """What a search finds, and how many cells it computed; stopped when these are too many."""
    noisy = {**EVALUATE, "noise": {"gaussian": [0.5, 1.0]}}
    trials, computed = Trials(study(folder, **BRIEF, search=RICH, evaluate=noisy)), []

    def compute(cells: Sequence[Cell]) -> None:
        new = [one for one in cells if one.key not in store.done(list(cells))]
        for part in [new] if workers > 1 else [[one] for one in new]:
            if at_most is not None and len(computed) >= at_most:
                raise StoppedError
            run_cells(part, store, workers=workers)
            computed.extend(part)

    trials.run(compute, store, lambda done: None)
    return trials.csv(), len(computed)


@pytest.mark.slow
def test_a_search_is_the_same_whatever_computes_it_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first, count = searched(tmp_path, CellStore(tmp_path / "one"))
    rows = list(csv.DictReader(io.StringIO(first)))
    assert [row["trial"] for row in rows] == [*map(str, range(6)), ""]
    assert [row["outcome"] for row in rows].count("pruned") == 2  # of each three the worst
    assert rows[-1]["outcome"] == "reference"
    assert searched(tmp_path, CellStore(tmp_path / "two"), workers=2) == (first, count)
    stopped = CellStore(tmp_path / "three")
    with pytest.raises(StoppedError):
        searched(tmp_path, stopped, at_most=count // 2)
    assert searched(tmp_path, stopped) == (first, count - count // 2)
    assert searched(tmp_path, stopped) == (first, 0)


def accuracy(measured: bytes) -> float:
    """At the last step."""
    tensors = load(measured)
    return float((tensors["answers"][-1] == tensors["labels"]).double().mean())


@pytest.mark.heavy
def test_an_exhaustive_search_finds_what_measuring_all_wirings_finds(tmp_path: Path) -> None:
    gains = [0.1, 0.4]
    search = {**SEARCH, "trials": 50, "sampler": "BruteForceSampler", "each": {"gain": gains}}
    trials, store = Trials(study(tmp_path, **BRIEF, search=search)), CellStore(tmp_path / "cells")
    trials.run(partial(run_cells, store=store), store, lambda done: None)
    assert len(trials.trials) == 9  # none, two of each edge alone, four of both

    choices: dict[str, Any] = {"none": "none"}
    for top in [None, *gains]:
        for low in [None, *gains]:
            edges = [{**edge, "gain": gain} for edge, gain in ((TOP, top), (LOW, low)) if gain is not None]
            choices[f"{top}+{low}"] = edges or "none"
    whole = {"arms": choices, "seeds": [SEED], "evaluate": {**EVALUATE, "limit": 25, "step": "held_out"}}
    plan = Plan(given := study(tmp_path, **whole), Arms(given))
    held = [one for one in plan.measures if (one.part, one.condition) == ("held_out", "gaussian:0.5")]
    run_cells(in_order(one.cell for one in held), other := CellStore(tmp_path / "others"))
    known = {one.arm: accuracy(other.read(one.cell.key)[MEASURED]) for one in held}
    for one in trials.trials:
        given_gains = [trials.space.shown(one.drawn).get(f"{name} gain") for name in ("e3->e2", "e2->e1")]
        assert one.values == (known["{}+{}".format(*given_gains)],)
    assert trials.best.values[0] == max(known.values())
    assert trials.found.arms["found"] == trials.space.arm(trials.best.drawn)


@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        ({"trials": 0}, "search.trials", "0"),
        ({"edges": None}, "search", "one of edges, feedback"),
        ({"feedback": ["chain"]}, "search", "one of edges, feedback"),
        ({"edges": "some"}, "search.edges", "some"),
        ({"edges": [TOP, TOP]}, "search.edges", "the same ends"),
        ({"each": {"gain": {"low": 0.4, "high": 0.4}}}, "search.each.gain", "an empty range"),
        ({"each": {"gain": {"low": 0.4, "high": 0.1}}}, "search.each.gain", "an empty range"),
        ({"each": {"gain": []}}, "search.each.gain", "at least one"),
        ({"each": {"gain": [0.1, 0.1]}}, "search.each.gain", "is there twice"),
        ({"each": {"gain": {"low": 0, "high": 1, "log": True}}}, "search.each.gain", "no logarithm of 0"),
        ({"each": {"gain": {"low": 0, "high": 1, "lo": 0}}}, "search.each.gain.lo", "unknown field 'lo'"),
        ({"fields": {"gain": [0.1]}}, "search", "'gain' is drawn twice"),
        ({"prune": 1.0}, "search.prune", "less than 1"),
        ({"objective": ["accuracy"]}, "search.objective", "unknown field"),
    ],
)
def test_faults_of_the_section(changes: dict[str, Any], where: str, message: str, tmp_path: Path) -> None:
    search = {name: value for name, value in {**SEARCH, **changes}.items() if value is not None}
    with pytest.raises(pcg.SpecError) as caught:
        load_study(written(tmp_path, search=search))
    (fault,) = caught.value.faults
    assert ".".join(map(str, fault.path)) == where
    assert message in fault.message
    assert "study.yaml" in fault.where


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        ({"edges": [{"source": "e9", "target": "e1"}]}, "search.edges", "unknown node 'e9'"),
        ({"fields": {"delay": [1, -1]}}, "search.fields.delay.1", "at least 0"),
        ({"fields": {"dynamics.eror": [0.1]}}, "search.fields.dynamics.eror.0", "unknown field"),
        ({"fields": {"dynamics.feedback": [0.1]}}, "search.fields.dynamics.feedback", "changes nothing"),
        ({"fields": {"backbone.model": ["x"]}}, "search.fields.backbone.model.0", "same in all arms"),
        ({"objectives": ["gaussian:0.7"]}, "search.objectives.0", "unknown objective"),
        ({"objectives": ["multiply_adds"]}, "search.objectives.0", "is an accuracy"),
        ({"prune": 0.5}, "search.prune", "nothing to leave out"),
        ({"seeds": [7, 0]}, "search.seeds.1", "is a seed of the study"),
        ({"arm": "chain"}, "search.arm", "there is an arm 'chain'"),
        ({"limit": 31}, "search.limit", "31 of 30"),
    ],
)
def test_faults_that_only_a_network_tells(
    changes: dict[str, Any], where: str, message: str, tmp_path: Path
) -> None:
    given = study(tmp_path, **BRIEF, search={**SEARCH, **changes})
    with pytest.raises(pcg.SpecError) as caught:
        Trials(given)
    (fault,) = caught.value.faults
    assert ".".join(map(str, fault.path)) == where
    assert message in fault.message
    assert "study.yaml" in fault.where


@pytest.mark.heavy
def test_all_faults_that_the_file_has_come_together(tmp_path: Path) -> None:
    search = {
        **SEARCH,
        "arm": "chain",
        "each": {"delay": [1, -2]},
        "fields": {"dynamics.eror": [0.1, 0.2], "dynamics.error": {"low": 0.1, "high": 0.2}},
        "seeds": [0, 7],
        "limit": 31,
        "prune": 0.5,
        "objectives": ["accuracy", "multiply_ads"],
    }
    with pytest.raises(pcg.SpecError) as caught:
        Trials(study(tmp_path, **BRIEF, search=search))
    found = {".".join(map(str, fault.path)): fault for fault in caught.value.faults}
    assert found.keys() == {
        "search.arm",
        "search.each.delay.1",
        "search.fields.dynamics.eror.0",  # and not again for the other value
        "search.limit",
        "search.objectives.1",
        "search.prune",
        "search.seeds.0",
    }
    lines = [int(fault.where.rsplit(":", 2)[1]) for fault in caught.value.faults]
    assert lines == sorted(lines)
    assert "31 of 30 held-out images" in found["search.limit"].message
    assert "'train: {validation: ...}'" in found["search.limit"].hint
    assert "0.1 here" in found["search.limit"].hint
    arms = {"chain": [{"source": "e9", "target": "e1"}]}
    with pytest.raises(pcg.SpecError) as caught:  # of another section, too
        Trials(study(tmp_path, arms=arms, seeds=1, search={**SEARCH, "arm": "chain"}))
    assert {fault.path[0] for fault in caught.value.faults} == {"arms", "search"}


@pytest.mark.heavy
def test_whether_the_arm_that_is_found_settles_is_always_looked_at(tmp_path: Path) -> None:
    arms = {"chain": "chain", "found": "chain"}  # as if it were found
    kinds = lambda one: {(a.kind, a.arm, a.seed) for a in one.analyses}  # noqa: E731
    own = planned(tmp_path, arms=arms, search=SEARCH)
    assert kinds(own) == {("stability", "found", 0), ("stability", "found", 1)}
    both = planned(tmp_path, arms=arms, search=SEARCH, analyses={"stability": {"images": 3, "steps": 20}})
    assert {arm for _, arm, _ in kinds(both)} == {"chain", "found"}
    assert {one.cell.content["images"] for one in both.analyses} == {3}
    assert kinds(planned(tmp_path, arms=arms)) == set()


@pytest.mark.heavy
def test_other_sections_may_name_what_is_found(tmp_path: Path) -> None:
    others = {
        "tune": {"data": "digits:train:300-399", "epochs": 1},
        "controls": {"plain": {"learns": "backbone", "like": "found"}},
        "lesions": {"of": "found"},
        "grid": {"arm": "found", "delay": [1, 2]},
        "contrasts": [["found", "plain"], ["found", "chain"]],
        "reference": "found",
    }
    trials = Trials(given := study(tmp_path, **BRIEF, search=SEARCH, **others))
    assert trials.reference is None  # it is what is looked for
    names = [one.name for one in Plan(trials.stand_in, Arms(trials.stand_in)).arms.wirings]
    grid, lesions = ["found[delay=1]", "found[delay=2]"], ["found without e3->e2", "found without e2->e1"]
    assert names[:4] == ["chain", "found", *grid]
    assert sorted(names[4:6]) == sorted(lesions)
    assert names[6:] == ["plain"]
    with pytest.raises(pcg.SpecError, match="an arm only when the search is done"):
        Arms(given)


@pytest.mark.heavy
def test_what_is_unseen_has_no_say_and_agreement_counts_where_it_is_asked_for(tmp_path: Path) -> None:
    evaluate = {**EVALUATE, "unseen": {"blur": [2.0]}, "right": "agreement"}
    trials = Trials(study(tmp_path, **BRIEF, search=SEARCH, evaluate=evaluate))
    assert trials.objectives.conditions == ["gaussian:0.5"]
    assert {one.content["right"] for one in trials.objectives.cells(trials.space.probes[0])} == {"agreement"}
    with pytest.raises(pcg.SpecError, match="'blur:2' is unseen"):
        Trials(study(tmp_path, **BRIEF, search={**SEARCH, "objectives": ["blur:2"]}, evaluate=evaluate))
