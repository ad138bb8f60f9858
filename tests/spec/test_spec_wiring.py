"""Feedback patterns against brute force on random graphs."""

from typing import Any

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcgraph.errors import SpecError
from pcgraph.spec import Spec, parse_spec, wire
from tests.examples import examples

Pairs = set[tuple[str, str]]
NAMES = [f"n{index}" for index in range(7)]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[str], dict[str, list[str]]]:
    """Nodes in order of declaration, and what each reads: a graph with a backbone, cycles allowed."""
    names = draw(st.permutations(NAMES))[: draw(st.integers(1, 7))]
    below = st.lists(st.sampled_from(["input", *names]), unique=True, max_size=4)
    return list(names), {name: draw(below) for name in names}


def spec_with(names: list[str], feedback: list[Any]) -> Spec:
    nodes = {name: f"place.{name}" for name in names}
    return parse_spec({"name": "n", "backbone": {"model": "timm:x"}, "nodes": nodes, "feedback": feedback})


def oracle(pattern: Any, names: list[str], reads: dict[str, list[str]]) -> Pairs:
    """The pattern's edges by definition, from all shortest paths of networkx."""
    upward = nx.DiGraph([(below, name) for name in names for below in reads[name]])
    upward.add_nodes_from([*names, "input"])
    distance = dict(nx.all_pairs_shortest_path_length(upward))
    pairs = {(high, low) for high in names for low in [*names, "input"] if high != low}
    if pattern == "to_input":
        return {(high, low) for high, low in pairs if low == "input"}
    if pattern == "dense":
        return {(high, low) for high, low in pairs if high in distance[low]}
    if pattern == "chain":
        return {(high, low) for high, low in pairs if upward.has_edge(low, high)}
    return {(high, low) for high, low in pairs if distance[low].get(high) == pattern["skip"]}


def as_pairs(spec: Spec, reads: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(edge.sources[0], edge.target) for edge, _ in wire(spec, reads)]


@given(graphs(), st.sampled_from(["chain", "to_input", "dense", {"skip": 1}, {"skip": 2}, {"skip": 3}]))
@examples(300)
def test_one_pattern(graph: tuple[list[str], dict[str, list[str]]], pattern: Any) -> None:
    names, reads = graph
    spec = spec_with(names, [pattern])
    expected = oracle(pattern, names, reads)
    if not expected:
        with pytest.raises(SpecError, match="finds no two nodes to connect"):
            wire(spec, reads)
        return
    found = as_pairs(spec, reads)
    assert set(found) == expected
    assert len(found) == len(expected)
    ranks = {name: rank for rank, name in enumerate(["input", *names])}
    assert found == sorted(found, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))


@given(graphs(), st.data())
@examples(200)
def test_several_patterns_and_edges(
    graph: tuple[list[str], dict[str, list[str]]], draws: st.DataObject
) -> None:
    names, reads = graph
    patterns = [
        pattern
        for pattern in draws.draw(
            st.lists(st.sampled_from(["chain", "to_input", "dense", {"skip": 2}]), max_size=3)
        )
        if oracle(pattern, names, reads)
    ]
    own = draws.draw(st.lists(st.tuples(*[st.sampled_from(["input", *names])] * 2), unique=True, max_size=4))
    explicit = [{"source": source, "target": target, "delay": 3} for source, target in own]
    feedback = draws.draw(st.permutations([*patterns, *explicit]))
    wired = wire(spec_with(names, feedback), reads)
    pairs = [(edge.sources[0], edge.target) for edge, _ in wired]
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == set(own).union(*(oracle(pattern, names, reads) for pattern in patterns))
    for (edge, path), pair in zip(wired, pairs, strict=True):
        section, index = path
        assert section == "feedback"
        assert isinstance(index, int)
        origin = feedback[index]
        assert (edge.delay == 3) == (pair in own)
        if pair in own:
            assert origin == {"source": pair[0], "target": pair[1], "delay": 3}
        else:
            first = next(item for item in feedback if item in patterns and pair in oracle(item, names, reads))
            assert origin == first


def test_chain_of_a_residual_block() -> None:
    """A block that reads the block before it, and past it the one before that."""
    reads = {"e1": ["input"], "e2": ["e1"], "e3": ["e2", "e1"]}
    spec = spec_with(["e1", "e2", "e3"], ["chain"])
    assert as_pairs(spec, reads) == [("e1", "input"), ("e2", "e1"), ("e3", "e1"), ("e3", "e2")]
    skipping = spec_with(["e1", "e2", "e3"], [{"skip": 2}])
    assert as_pairs(skipping, reads) == [("e2", "input"), ("e3", "input")]


def test_without_a_backbone_the_first_node_is_the_input() -> None:
    spec = parse_spec(
        {
            "name": "n",
            "nodes": {name: {"shape": [2]} for name in ("image", "hidden", "label")},
            "edges": [{"source": "image", "target": "hidden"}, {"source": "hidden", "target": "label"}],
            "feedback": ["to_input", "chain"],
        }
    )
    reads = {"hidden": ["image"], "label": ["hidden"]}
    assert as_pairs(spec, reads) == [("hidden", "image"), ("label", "image"), ("label", "hidden")]


def test_a_pattern_leaves_out_what_stands_under_edges() -> None:
    spec = parse_spec(
        {
            "name": "n",
            "nodes": {name: {"shape": [2]} for name in "ab"},
            "edges": [{"source": "a", "target": "b"}, {"source": "b", "target": "a"}],
            "feedback": "chain",
        }
    )
    assert wire(spec, {"a": ["b"], "b": ["a"]}) == []


def test_several_sources_are_another_edge() -> None:
    spec = spec_with(["e1", "e2", "e3"], ["chain", {"source": ["e2", "e3"], "target": "e1"}])
    wired = wire(spec, {"e1": ["input"], "e2": ["e1"], "e3": ["e2"]})
    assert [(edge.sources, edge.target) for edge, _ in wired] == [
        (("e1",), "input"),
        (("e2",), "e1"),
        (("e2", "e3"), "e1"),
        (("e3",), "e2"),
    ]


@pytest.mark.parametrize("feedback", [[], ["none"]])
def test_no_feedback(feedback: list[str]) -> None:
    assert wire(spec_with(["e1", "e2"], feedback), {"e1": ["input"], "e2": ["e1"]}) == []


def test_skip_too_far() -> None:
    spec = parse_spec(
        "name: n\nbackbone: {model: timm:x}\nnodes: {e1: a, e2: b}\nfeedback: [chain, {skip: 9}]\n"
    )
    with pytest.raises(SpecError) as caught:
        wire(spec, {"e1": ["input"], "e2": ["e1"]})
    assert str(caught.value) == (
        "<text>:4:19 feedback[1]: the pattern {skip: 9} finds no two nodes to connect\n"
        "  The longest distance between two nodes is 2."
    )
