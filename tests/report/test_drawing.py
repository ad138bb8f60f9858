"""What is on a drawing and in a tree: every node, every edge, with the gains that hold."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from rich.console import Console

import pcgraph as pcg
from pcgraph.analysis.cost import step_cost
from pcgraph.network import PCNetwork
from pcgraph.report.description import describe
from pcgraph.report.figures import name_lines
from pcgraph.report.label_places import text_width
from pcgraph.report.tree import wiring_tree
from pcgraph.report.wiring import MANY, wiring_figure

RING = {
    "name": "ring",
    "nodes": {name: {"shape": [4]} for name in ("image", "a", "b", "c")},
    "edges": [
        {"source": "image", "target": "a", "bundle": "into a", "precision": 2},
        {"source": "c", "target": "a", "bundle": "into a", "precision": 2},
        {"source": "a", "target": "b"},
        {"source": ["a", "b"], "target": "c", "delay": 3},
        {"source": "b", "target": "b"},
    ],
    "feedback": [{"source": "a", "target": "image"}],
    "dynamics": {"rule": "energy", "rate": 0.2, "nodes": {"c": {"rate": 0.05}}},
}


@pytest.fixture(scope="module")
def ring() -> PCNetwork:
    return pcg.build(pcg.parse_spec(RING))


def texts(network: PCNetwork) -> list[str]:
    axes = wiring_figure(network).axes[0]
    return [item.get_text() for item in axes.findobj(Text) if item.get_text()]


@pytest.mark.parametrize("text", ["Ωg@j &8", "β 0.3   λ 0.1\ndelay 12", r"\$a\$", "$x^2$", " ", ""])
def test_texts_are_as_wide_as_their_outlines(text: str) -> None:
    font = FontProperties(family="DejaVu Sans", weight="bold")
    outlines = [TextPath((0, 0), line, size=9, prop=font) for line in text.splitlines() if line.strip()]
    wide = max((outline.get_extents().width for outline in outlines), default=0)  # of the curves themselves
    assert text_width(text, 9, bold=True) == pytest.approx(wide / 72)


def test_every_node_and_edge_is_drawn(ring: PCNetwork) -> None:
    axes = wiring_figure(ring).axes[0]
    boxes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    lines = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    assert len(boxes) == 4
    # seven strokes (one a source, the self edge is one), and the stem of each joint: a bundle that is
    # reached from below and from above, and an edge of two sources
    assert len(lines) == 7 + 3
    dashed = [line for line in lines if line.get_linestyle() not in ("solid", "-")]
    assert len(dashed) == 1


def test_labels_tell_gains_and_delays(ring: PCNetwork) -> None:
    found = Counter(texts(ring))
    assert found["π 2\ndelay 1"] == 2
    assert found["π 1\ndelay 3"] == 1
    assert found["π 1\ndelay 1"] == 3
    assert found["4   rate 0.2"] == 3
    assert found["4   rate 0.05"] == 1
    assert found["Σ"] == 3  # the bundle's two joints, and the legend
    for word in ("ring", "rule energy · order synchronous", "feedforward", "feedback", "π precision"):
        assert found[word] == 1


def test_learned_first_guesses_stand_at_their_nodes() -> None:
    spec = {
        "name": "hybrid",
        "nodes": {name: {"shape": [4]} for name in ("image", "hidden", "code")},
        "edges": [{"source": "code", "target": "hidden"}, {"source": "hidden", "target": "image"}],
        "start": [
            {"source": "image", "target": "hidden"},
            {"source": ["image", "hidden"], "target": "code", "predictor": ["Linear", "Tanh"]},
        ],
        "dynamics": {"rule": "energy", "rate": 0.1},
        "schedule": {"initial": "amortised"},
    }
    network = pcg.build(pcg.parse_spec(spec))
    found = texts(network)
    assert "4   rate 0.1" in found  # the image
    assert "4   rate 0.1   start ← image" in found
    assert "4   rate 0.1   start ← image + hidden" in found
    assert "π precision; start ← learned first guess" in found
    console = Console(width=100)
    with console.capture() as capture:
        console.print(wiring_tree(network))
    tree = capture.get()
    assert "start ← image   " in tree
    assert "start ← image + hidden   Linear + Tanh" in tree


def test_shared_gains_are_shown_as_they_act() -> None:
    spec = {
        "name": "shared",
        "nodes": {name: {"shape": [4]} for name in ("image", "a", "b")},
        "edges": [{"source": "image", "target": "a"}, {"source": "a", "target": "b"}],
        "feedback": ["chain", "to_input"],
        "dynamics": {"feedback": 0.3, "nodes": {"b": {"error": 0.5}}},
    }
    network = pcg.build(pcg.parse_spec(spec))
    found = Counter(texts(network))
    assert found["λ 0.15  α 0.01\ndelay 1"] == 1  # two edges into the image share its 0.3
    assert found["λ 0.15  α 0.5\ndelay 1"] == 1
    assert found["λ 0.3  α 0.5\ndelay 1"] == 1
    edges = {edge["name"]: edge for edge in describe(network)["edges"]}
    assert edges["b->image"]["gain"] == pytest.approx(0.15)
    assert edges["b->image"]["error"] == {"b": 0.5}


def test_text_does_not_leave_the_paper(ring: PCNetwork) -> None:
    figure = wiring_figure(ring)
    figure.canvas.draw()
    paper = figure.bbox
    for item in figure.axes[0].findobj(Text):
        if item.get_text():
            box = item.get_window_extent()
            assert box.x0 >= paper.x0 - 1, item
            assert box.x1 <= paper.x1 + 1, item
            assert box.y0 >= paper.y0 - 1, item
            assert box.y1 <= paper.y1 + 1, item


def test_labels_do_not_lie_over_boxes_or_each_other(ring: PCNetwork) -> None:
    figure = wiring_figure(ring)
    figure.canvas.draw()
    axes = figure.axes[0]
    labels = [item.get_window_extent() for item in axes.texts if "delay" in item.get_text()]
    boxes = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    for place, label in enumerate(labels):
        assert not any(label.overlaps(other) for other in [*labels[place + 1 :], *boxes])


def test_very_many_edges_are_drawn_without_labels() -> None:
    names = [f"n{index}" for index in range(14)]
    spec = {
        "name": "dense",
        "nodes": {name: {"shape": [1]} for name in names},
        "edges": [{"source": a, "target": b} for a, b in pairwise(names)],
        "feedback": "dense",
        "dynamics": {"rule": "energy"},
    }
    network = pcg.build(pcg.parse_spec(spec))
    assert len(network.graph.edges) > MANY
    assert not any("delay" in text for text in texts(network))


def test_the_cost_of_a_step_is_its_multiplications() -> None:
    network = pcg.build("specs/vgg16.yaml", weights=False)
    # By hand: every convolution behind e1, at the resolution of its input's pooling, and the five
    # transposed convolutions forward and (towards their sources) back.
    backbone = 128 * 64 * 9 * 112**2 + 128 * 128 * 9 * 112**2
    backbone += (256 * 128 + 2 * 256 * 256) * 9 * 56**2
    backbone += (512 * 256 + 2 * 512 * 512) * 9 * 28**2 + 3 * 512 * 512 * 9 * 14**2
    feedback = 64 * 3 * 25 * 224**2 + 128 * 64 * 100 * 112**2
    feedback += 256 * 128 * 196 * 56**2 + 512 * 256 * 196 * 28**2 + 512 * 512 * 196 * 14**2
    assert step_cost(network) == backbone + 2 * feedback


def test_a_line_without_any_finite_value_gets_no_name() -> None:
    axes = Figure().subplots()
    axes.plot([0, 1], [math.nan, math.nan], label="empty")
    axes.plot([0, 1], [0.2, math.nan], label="half")
    name_lines(axes)
    assert [text.get_text() for text in axes.texts] == ["half"]
