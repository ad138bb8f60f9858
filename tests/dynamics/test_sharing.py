"""What edges divide among themselves: gains of a wiring against those written out by hand."""

from __future__ import annotations

from typing import Any

import pytest

import pcgraph as pcg

NODES = {name: {"shape": [4]} for name in "abcd"}
UP = [{"source": s, "target": t, "predictor": ["Linear"]} for s, t in ("ab", "bc", "cd")]


def rule(wiring: list[Any], **dynamics: Any) -> Any:
    given = {"feedforward": 0.2, "feedback": 0.3, "error": 0.12, "gradient": "sum"}
    spec = {"name": "w", "nodes": NODES, "edges": UP, "feedback": wiring, "dynamics": {**given, **dynamics}}
    return pcg.build(spec).dynamics


def down(source: str, target: str, **own: Any) -> dict[str, Any]:
    return {"source": source, "target": target, "predictor": ["Linear"], **own}


THREE = [down("b", "a"), down("c", "a"), down("c", "b"), down("d", "b"), down("d", "c")]


def test_lambda_is_divided_among_the_edges_into_a_node() -> None:
    target = rule(THREE).gains(1).target
    assert [target[e] for e in ("b->a", "c->a")] == pytest.approx([0.15, 0.15])
    assert [target[e] for e in ("c->b", "d->b")] == pytest.approx([0.15, 0.15])
    assert target["d->c"] == pytest.approx(0.3)


def test_or_each_draws_with_all_of_it() -> None:
    shared = rule(THREE, share={"feedback": "edge"})
    target = shared.gains(1).target
    assert [target[e["source"] + "->" + e["target"]] for e in THREE] == pytest.approx([0.3] * 5)
    assert shared.memory() == pytest.approx({"a": 0.4, "b": 0.2, "c": 0.5, "d": 0.8})


def test_alpha_moves_a_source_once_for_each_edge_or_is_divided() -> None:
    each = rule(THREE).gains(1).source
    assert each == pytest.approx(dict.fromkeys(each, 0.12))
    divided = rule(THREE, share={"error": "source"}).gains(1).source
    assert divided == pytest.approx(
        {
            ("b->a", "b"): 0.12,
            ("c->a", "c"): 0.06,
            ("c->b", "c"): 0.06,
            ("d->b", "d"): 0.06,
            ("d->c", "d"): 0.06,
        }
    )


@pytest.mark.parametrize("share", [{"feedback": "edge", "error": "edge"}])
def test_a_lesion_leaves_the_other_edges_alone_where_nothing_is_shared(share: dict[str, str]) -> None:
    whole = rule(THREE, share=share).gains(1)
    for cut in THREE:
        left = rule([edge for edge in THREE if edge is not cut], share=share).gains(1)
        assert left.target == pytest.approx({name: whole.target[name] for name in left.target})
        assert left.source == pytest.approx({pair: whole.source[pair] for pair in left.source})


def test_a_budget_holds_whatever_the_number_of_edges() -> None:
    share = {"feedback": "target", "error": "source"}
    for edges in (THREE, THREE[:3], THREE[2:]):
        found = rule(edges, share=share)
        gains = found.gains(1)
        for node in {edge["target"] for edge in edges}:
            into = [gains.target[f"{e['source']}->{e['target']}"] for e in edges if e["target"] == node]
            assert sum(into) == pytest.approx(0.3)
        for node in {edge["source"] for edge in edges}:
            assert sum(
                alpha for (_, source), alpha in gains.source.items() if source == node
            ) == pytest.approx(0.12)


def test_edges_with_their_own_gains_take_no_part() -> None:
    own = [down("b", "a", gain=0.05, error=0.5), *THREE[1:]]
    found = rule(own, share={"error": "source"})
    gains = found.gains(1)
    assert gains.target["b->a"] == 0.05
    assert gains.target["c->a"] == pytest.approx(0.3)
    assert gains.source["b->a", "b"] == 0.5
    assert found.memory()["a"] == pytest.approx(0.65)


def test_auto_is_found_for_all_edges_of_a_source_and_not_divided_again() -> None:
    found = [rule(THREE, error="auto", share={"error": s}).gains(1).source for s in ("edge", "source")]
    assert found[0] == pytest.approx(found[1])
    assert all(alpha > 0 for alpha in found[0].values())


@pytest.mark.parametrize(
    ("feedback", "dynamics"),
    [
        (THREE, {"share": {"feedback": "edge"}, "feedback": 0.45}),  # b: 0.2 + 2 * 0.45
        ([down("c", "b", gain=0.9)], {}),
        ([down("c", "b"), down("d", "b", gain=0.6)], {}),
        ([down("c", "b")], {"nodes": {"b": {"feedforward": 0.8}}}),
    ],
)
def test_more_than_a_state_cannot_be_replaced(feedback: list[Any], dynamics: dict[str, Any]) -> None:
    with pytest.raises(pcg.SpecError, match=r"a step replaces 1\.1 times the state of 'b': a->b"):
        rule(feedback, **dynamics)
    allowed = rule(feedback, **dynamics, allow_negative_memory=True)
    assert allowed.memory()["b"] == pytest.approx(-0.1)
