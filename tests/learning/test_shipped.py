"""The shipped networks without a backbone learn, each on a few real digits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import pcgraph as pcg
from pcgraph.datasets import digits
from pcgraph.learning import learn, stability_margin
from pcgraph.resources import shipped_spec, shipped_specs

FREE = [name for name in shipped_specs() if pcg.load_spec(shipped_spec(name)).backbone is None]


def test_there_is_one_of_each_kind() -> None:
    assert {"pc_mlp", "pc_skip", "pc_full", "pc_cycle", "pc_memory"} <= set(FREE)


@pytest.mark.parametrize("name", FREE)
def test_a_shipped_network_learns_at_a_stable_rate(name: str) -> None:
    network, data = pcg.build(shipped_spec(name)), digits()
    clamp = {"image": data.train_images[:20], "label": F.one_hot(data.train_labels[:20], 10).float()}
    clamp = {node: value for node, value in clamp.items() if node in network.graph.nodes}
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    totals = [update.total for update in learn(network, [clamp] * 20, optimizer, steps=10)]
    assert totals[-1] < 0.7 * totals[0]
    assert stability_margin(network, clamp, iterations=20) > 1


def test_the_full_graph_predicts_every_area_from_every_other() -> None:
    graph = pcg.build(shipped_spec("pc_full")).graph
    pairs = {(source, edge.target) for edge in graph.edges.values() for source in edge.sources}
    assert pairs == {(a, b) for a in graph.nodes for b in graph.nodes if a != b}
