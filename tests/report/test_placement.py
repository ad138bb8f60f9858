"""Where nodes and edges go: nothing lies over anything else, whatever the graph."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcgraph.graph import Edge, Node, PCGraph
from pcgraph.report.placement import GAP, lay_out, levels
from pcgraph.report.routes import BOX_HEIGHT, JUNCTION, Routes

WIDTH, LABEL = 1.4, 0.7


def graph(count: int, arcs: list[tuple[str, int, int]]) -> PCGraph:
    """Nodes n0, n1, ... of one unit; arcs are (kind, source, target)."""
    chain = [("feedforward", index, index + 1) for index in range(count - 1)]
    nodes = [Node(f"n{index}", (1,)) for index in range(count)]
    edges = {}
    for kind, source, target in arcs or chain:
        name = f"n{source}->n{target}"
        edges.setdefault(name, Edge(name, (f"n{source}",), f"n{target}", kind, "auto", 1, name))  # type: ignore[arg-type]
    return PCGraph(nodes, edges.values())


@st.composite
def graphs(draw: st.DrawFn) -> PCGraph:
    """Random connected graphs with skips, cycles, feedback and self edges."""
    count = draw(st.integers(2, 9))
    index = st.integers(0, count - 1)
    kind = st.sampled_from(["feedforward", "feedback"])
    tied = [(draw(kind), draw(st.integers(0, node - 1)), node) for node in range(1, count)]
    return graph(count, [*tied, *draw(st.lists(st.tuples(kind, index, index), max_size=14))])


def routes(network: PCGraph) -> Routes:
    names = network.nodes
    widths, halves = dict.fromkeys(names, WIDTH), dict.fromkeys(names, WIDTH / 2)
    return Routes(network, widths, halves, dict.fromkeys(network.edges, LABEL))


@given(graphs())
def test_nothing_in_a_level_lies_over_anything_else(network: PCGraph) -> None:
    layout = lay_out(network, dict.fromkeys(network.nodes, WIDTH), dict.fromkeys(network.edges, LABEL))
    assert {slot.node for row in layout.levels for slot in row if slot.node} == set(network.nodes)
    for level, row in enumerate(layout.levels):
        assert row, "no level is empty"
        assert all(slot.level == level for slot in row)
        for one, other in pairwise(row):
            least = (WIDTH if one.node else 0) / 2 + (WIDTH if other.node else 0) / 2 + GAP
            assert layout.x[other] - layout.x[one] >= least - 1e-6


@given(graphs())
def test_strokes_begin_and_end_at_their_boxes(network: PCGraph) -> None:
    drawn = routes(network)
    for index, stroke in enumerate(drawn.layout.strokes):
        joint = drawn.joint(index)
        for point, node in ((drawn.ports[index], stroke.source), (drawn.ports[joint], stroke.edge.target)):
            slot = drawn.layout.node[node]
            x, y = point[0] - drawn.layout.x[slot], point[1] - drawn.floor[slot.level]
            on_top_or_bottom = abs(x) < WIDTH / 2 and y in (pytest.approx(0), pytest.approx(BOX_HEIGHT))
            on_side = abs(x) == pytest.approx(WIDTH / 2) and 0 < y < BOX_HEIGHT
            assert on_top_or_bottom or on_side
        end = drawn.ports[joint]
        path = drawn.path(index, drawn.ports[index], end)
        assert tuple(path.vertices[0]) == drawn.ports[index]
        assert tuple(path.vertices[-1]) == end


@given(graphs())
def test_feedforward_edges_rise_unless_they_close_a_cycle(network: PCGraph) -> None:
    import networkx as nx

    rank = levels(network)
    arcs = nx.DiGraph(network.to_networkx(kind="feedforward"))
    arcs.remove_edges_from(nx.selfloop_edges(arcs))
    if nx.is_directed_acyclic_graph(arcs):
        assert all(rank[source] < rank[target] for source, target in arcs.edges)
    else:
        assert any(rank[source] < rank[target] for source, target in arcs.edges)


@given(st.integers(3, 12), st.data())
def test_lanes_beside_a_column_do_not_share_a_stretch(count: int, data: st.DataObject) -> None:
    index = st.integers(0, count - 1)
    pairs = data.draw(
        st.lists(st.tuples(index, index).filter(lambda pair: abs(pair[0] - pair[1]) > 1), max_size=12)
    )
    chain = [("feedforward", node, node + 1) for node in range(count - 1)]
    skips = [("feedforward" if source < target else "feedback", source, target) for source, target in pairs]
    layout = lay_out(
        network := graph(count, [*chain, *skips]),
        dict.fromkeys(network.nodes, WIDTH),
        dict.fromkeys(network.edges, LABEL),
    )
    assert layout.lanes is not None
    taken: set[tuple[str, int, int]] = set()
    for stroke, lane in layout.lanes.items():
        ends = sorted(
            slot.level for slot in (layout.strokes[stroke].slots[0], layout.strokes[stroke].slots[-1])
        )
        for level in range(*ends):
            stretch = (layout.strokes[stroke].edge.kind, lane, level)
            assert stretch not in taken
            taken.add(stretch)


def test_a_chain_is_a_straight_column_from_the_bottom() -> None:
    layout = lay_out(
        network := graph(5, []), dict.fromkeys(network.nodes, WIDTH), dict.fromkeys(network.edges, LABEL)
    )
    assert [row[0].node for row in layout.levels] == ["n0", "n1", "n2", "n3", "n4"]
    assert set(layout.x.values()) == {0.0}


def test_a_node_that_only_predicts_stands_above_what_it_predicts() -> None:
    rank = levels(graph(3, [("feedforward", 0, 1), ("feedback", 2, 1)]))
    assert rank == {"n0": 0, "n1": 1, "n2": 2}


def test_strokes_of_one_error_term_join_before_the_box() -> None:
    nodes = [Node(name, (1,)) for name in ("a", "b", "c")]
    edges = [
        Edge("a->b", ("a",), "b", "feedforward", None, 1, "a->b"),
        Edge("a+b->c", ("a", "b"), "c", "feedforward", None, 1, "a+b->c"),
    ]
    drawn = routes(PCGraph(nodes, edges))
    joints = [drawn.joint(index) for index in range(3)]
    assert [drawn.joins(joint) for joint in joints] == [False, True, True]
    assert joints[1] == joints[2]
    assert JUNCTION > 0
