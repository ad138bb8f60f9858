"""What print, the prompt and a notebook show: a few lines, in which everything that they say is true."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

import pcgraph as pcg
from pcgraph.display.text import format_count, format_shape, listing
from pcgraph.network import PCNetwork
from tests.report.test_drawing import RING
from tests.training.nets import tiny

SPEC = {
    "name": "seen",
    "backbone": {"input": [1, 12, 12]},
    "nodes": {"e1": "1", "e2": "3"},
    "feedback": "chain",
    "schedule": {"order": "sweep", "steps": 7},
}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def network() -> PCNetwork:
    return pcg.build(SPEC, model=tiny())


def test_a_network_in_a_few_lines(network: PCNetwork) -> None:
    lines = repr(network).splitlines()
    assert len(lines) <= 6
    assert lines[0] == (
        "PCNetwork of Spec 'seen': backbone given as an object; nodes e1, e2; rule predify; "
        "order sweep, 7 steps"
    )
    assert "  nodes: input 1x12x12, e1 4x12x12, e2 6x6x6" in lines
    assert "  feedforward: input->e1, e1->e2" in lines
    assert "  feedback: e1->input, e2->e1" in lines
    learning = sum(p.numel() for p in network.predictors.parameters())
    total = learning + sum(p.numel() for p in tiny().parameters())
    expected = f"{format_count(total)} parameters, {format_count(learning)} require a gradient"
    assert lines[-1] == f"  {expected}; float32 on cpu"
    assert repr(network.double()).endswith("float64 on cpu")


def test_a_graph_a_state_and_a_spec(network: PCNetwork) -> None:
    graph = repr(network.graph)
    assert graph.startswith("PCGraph of 3 nodes and 4 edges\n")
    assert len(graph.splitlines()) <= 4
    scheduler = pcg.Scheduler(network)
    state = scheduler.step(scheduler.start(torch.randn(5, 1, 12, 12), clamp={"e2": torch.randn(5, 6, 6, 6)}))
    assert repr(state).splitlines() == [
        "State at step 1, batch of 5",
        "  nodes: input 1x12x12, e1 4x12x12, e2 6x6x6",
        "  held: input, e2",
    ]
    assert str(network.spec) == repr(network.spec)
    assert "\n" not in repr(network.spec)


def test_of_many_things_the_first_and_their_number() -> None:
    nodes = {f"n{index}": {"shape": [2]} for index in range(40)}
    edges = [{"source": f"n{index}", "target": f"n{index + 1}"} for index in range(39)]
    network = pcg.build({"name": "long", "nodes": nodes, "edges": edges, "dynamics": {"rule": "energy"}})
    text = repr(network)
    assert len(text.splitlines()) <= 6
    assert max(map(len, text.splitlines())) < 160
    assert "... (40 in all)" in text
    assert "... (39 in all)" in text
    assert listing("abcdefgh") == "a, b, c, d, e, f, g, h"
    assert listing("abcdefghi") == "a, b, c, d, e, f, ... (9 in all)"


def test_a_printed_table_holds_every_name_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("FORCE_COLOR", "1")
    long = "a_name_that_is_longer_than_any_window_" * 4
    model = nn.Sequential()
    model.add_module(long, nn.Conv2d(3, 4, 3))
    model.add_module("[red]", nn.ReLU())  # no markup
    table = pcg.trace(model, (3, 8, 8))
    printed = str(table)
    assert "\x1b" not in printed
    for row in table:
        (line,) = [line for line in printed.splitlines() if line.startswith(f"│ {row.name} ")]
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        assert cells[:3] == [row.name, row.op, format_shape(row.shape)]
    assert len(repr(table).splitlines()) == 1
    assert "2 places" in repr(table)


def test_a_table_in_a_notebook_escapes_what_is_in_it() -> None:
    model = nn.Sequential()
    model.add_module("<b>", nn.Linear(3, 4))
    table = pcg.trace(model, (3,))
    page = ElementTree.fromstring(f"<div>{table._repr_html_()}</div>")
    rows = [[cell.text or "" for cell in row] for row in page.iter("tr")]
    assert rows[0] == ["node", "op", "shape", "parameters", "cost"]
    assert rows[1] == ["<b>", "Linear", "4", "16", "12"]


def test_the_wiring_in_a_notebook(network: PCNetwork) -> None:
    for wired in (network, network.graph, pcg.build(RING), pcg.build(RING).graph):
        graph = getattr(wired, "graph", wired)
        drawing = ElementTree.fromstring(wired._repr_html_())
        assert drawing.tag == f"{SVG}svg"
        assert drawing.get("width", "").endswith("pt")
        boxes = [group for group in drawing.iter(f"{SVG}g") if (group.get("id") or "").startswith("patch_")]
        assert len(boxes) > len(graph.nodes)


def test_without_matplotlib_a_notebook_shows_the_text(
    network: PCNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert network._repr_html_() is None
    assert network.graph._repr_html_() is None
