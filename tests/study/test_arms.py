"""The wirings of a study, against what networkx and the spec itself say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import pcgraph as pcg
from pcgraph.analysis.lesion import Lesioned
from pcgraph.study import Arms, Wiring
from tests.study.files import planned, study

ALL = {("e1", "input"), ("e2", "input"), ("e2", "e1"), ("e3", "input"), ("e3", "e1"), ("e3", "e2")}


def wirings(folder: Path, **changes: Any) -> dict[str, Wiring]:
    return {one.name: one for one in Arms(study(folder, **changes)).wirings}


def pairs(one: Wiring) -> set[tuple[str, str]]:
    return {(edge.sources[0], edge.target) for edge in one.edges}


@pytest.mark.heavy
def test_drawn_wirings_have_so_many_of_all_edges_and_repeat(tmp_path: Path) -> None:
    given = {"arms": {"r": {"random": {"edges": 3, "draws": 40}}}}
    found = wirings(tmp_path, **given)
    assert list(found) == [f"r-{draw}" for draw in range(40)]
    assert all(len(pairs(one)) == 3 and pairs(one) <= ALL for one in found.values())
    assert len({frozenset(pairs(one)) for one in found.values()}) > 10  # of 20
    counts = Counter(pair for one in found.values() for pair in pairs(one))
    assert set(counts) == ALL
    assert min(counts.values()) > 8  # 20 expected, standard deviation 3.2
    again = wirings(tmp_path, **given)
    assert [pairs(one) for one in again.values()] == [pairs(one) for one in found.values()]


@pytest.mark.heavy
def test_a_shuffle_keeps_what_every_node_makes_and_receives(tmp_path: Path) -> None:
    edges = [("e3", "e2"), ("e3", "e1"), ("e2", "input"), ("e1", "input")]
    arm = [{"source": a, "target": b} for a, b in edges]
    found = wirings(tmp_path, arms={"own": arm, "s": {"shuffle": {"of": "own", "draws": 6}}})
    drawn = [pairs(one) for name, one in found.items() if name != "own"]
    assert any(one != set(edges) for one in drawn)
    for one in drawn:
        assert one <= ALL
        assert Counter(a for a, _ in one) == Counter(a for a, _ in edges)
        assert Counter(b for _, b in one) == Counter(b for _, b in edges)


def test_what_cannot_be_shuffled_is_refused(tmp_path: Path) -> None:
    with pytest.raises(pcg.SpecError, match="can exchange their ends"):
        wirings(tmp_path, arms={"all": "dense", "s": {"shuffle": {"of": "all"}}})


def test_a_grid_means_the_edges_that_are_written_out_or_all(tmp_path: Path) -> None:
    slow = ["chain", {"source": "e3", "target": "e2", "delay": 3}]
    grid = [{"arm": "slow", "delay": [1, 5]}, {"arm": "chain", "delay": [2], "dynamics.feedback": [0.1, 0.2]}]
    found = wirings(tmp_path, arms={"slow": slow, "chain": "chain"}, grid=grid)
    assert list(found)[2:] == [
        "slow[delay=1]",
        "slow[delay=5]",
        "chain[delay=2,feedback=0.1]",
        "chain[delay=2,feedback=0.2]",
    ]
    assert [edge.delay for edge in found["slow[delay=5]"].edges] == [None, None, 5]
    assert [edge.delay for edge in found["chain[delay=2,feedback=0.2]"].edges] == [2, 2, 2]
    assert found["chain[delay=2,feedback=0.2]"].spec.dynamics.feedback == 0.2


def test_the_share_and_other_fields_reach_every_arm(tmp_path: Path) -> None:
    share = {"feedback": "edge", "error": "source"}
    other = {"feedback": "chain", "spec": {"schedule": {"order": "synchronous"}}}
    found = wirings(tmp_path, share=share, arms={"a": "chain", "b": other, "c": {"random": {"edges": 1}}})
    assert all(one.spec.dynamics.share.model_dump() == share for one in found.values())
    assert [one.spec.schedule.order for one in found.values()] == ["sweep", "synchronous", "sweep"]


def own_gains(gains: Any, name: str) -> dict[str, float]:
    return {"gain": gains.target[name], "error": gains.source[name, name[0]]}


@pytest.mark.parametrize("rule", ["predify", "energy"])
def test_a_lesion_takes_one_edge_out_and_leaves_the_others_as_they_were(rule: str) -> None:
    """Against a network that never had the edge, with the other edges' gains written out."""
    spec: dict[str, Any] = {
        "name": "w",
        "nodes": {name: {"shape": [6]} for name in "abcd"},
        "edges": [{"source": s, "target": t, "predictor": ["Linear", "Tanh"]} for s, t in ("ab", "bc", "cd")],
        "feedback": [
            {"source": s, "target": t, "predictor": ["Linear", "Tanh"]} for s, t in ("cb", "db", "dc")
        ],
        "dynamics": {"feedforward": 0.3, "feedback": 0.4, "error": 0.2, "gradient": "sum"},
    }
    if rule == "energy":
        spec["dynamics"] = {"rule": "energy", "rate": 0.1}
    whole = pcg.build(spec)
    image = torch.randn(3, 6)
    gains = whole.dynamics.gains(1)
    for cut in ("c->b", "d->b", "d->c"):
        own = [
            edge
            if rule == "energy"
            else {**edge, "gain": gains.target[name], "error": gains.source[name, name[0]]}
            for edge in spec["feedback"]
            if (name := f"{edge['source']}->{edge['target']}") != cut
        ]
        expected = pcg.Scheduler(pcg.build({**spec, "feedback": own})).run(image, steps=6).state.values
        lesioned = pcg.build(spec)
        lesioned.dynamics = Lesioned(lesioned.dynamics, cut, frozenset([cut]))
        found = pcg.Scheduler(lesioned).run(image, steps=6).state.values
        intact = pcg.Scheduler(whole).run(image, steps=6).state.values
        for node in "bcd":
            torch.testing.assert_close(found[node], expected[node])
        assert not torch.allclose(found["b"], intact["b"])


def test_one_network_under_several_names_is_told(tmp_path: Path) -> None:
    pairs = (("e1", "input"), ("e2", "e1"), ("e3", "e2"))
    below = [{"source": upper, "target": lower} for upper, lower in pairs]
    arms = {
        "chain": "chain",
        "slow": ["chain", {"source": "e3", "target": "e2", "delay": 3}],
        "written": [below[2], below[0], {**below[1], "delay": 1}],
        "weak": [*below[:2], {**below[2], "gain": 0.1}],
        "steps": {"feedback": "chain", "spec": {"schedule": {"steps": 3}}},
    }
    plan = planned(tmp_path, arms=arms, grid={"arm": "slow", "delay": [1, 3]})
    assert plan.alike() == [["chain", "written", "slow[delay=1]"], ["slow", "slow[delay=3]"]]
