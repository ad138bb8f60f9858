"""The shipped networks without a backbone learn, each on a few real digits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import pcgraph as pcg
from pcgraph.datasets import digits
from pcgraph.files.shipped import shipped_spec, shipped_specs
from pcgraph.learning import batches, learn, stability_margin

pytestmark = pytest.mark.long

FREE = [name for name in shipped_specs() if pcg.load_spec(shipped_spec(name)).backbone is None]


def test_there_is_one_of_each_kind() -> None:
    assert {"pc_mlp", "pc_skip", "pc_full", "pc_cycle", "pc_memory", "pc_full_memory"} <= set(FREE)
    assert {"pc_small_world", "pc_scale_free", "pc_recurrent", "pc_hopfield"} <= set(FREE)


@pytest.mark.heavy
@pytest.mark.parametrize("name", FREE)
def test_a_shipped_network_learns_at_a_stable_rate(name: str) -> None:
    spec = pcg.load_spec(shipped_spec(name)).model_copy(update={"weights": None})
    network, data = pcg.build(spec), digits()
    clamp = {"image": data.train_images[:20], "label": F.one_hot(data.train_labels[:20], 10).float()}
    clamp = {node: value for node, value in clamp.items() if node in network.graph.nodes}
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    totals = [update.total for update in learn(network, [clamp] * 20, optimizer, steps=10)]
    assert totals[-1] < 0.7 * totals[0]
    if set(clamp) != set(network.graph.nodes):  # else no state moves
        assert stability_margin(network, clamp, iterations=20) > 1


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["pc_small_world", "pc_scale_free", "pc_recurrent"])
def test_a_drawn_or_recurrent_graph_learns_to_classify(name: str) -> None:
    """Fifty updates are far from all it can, and far above the 10 % of chance."""
    spec = pcg.load_spec(shipped_spec(name)).model_copy(update={"weights": None})
    network, data = pcg.build(spec), digits()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    given = {"image": data.train_images[:400], "label": F.one_hot(data.train_labels[:400], 10).float()}
    for epoch in range(5):
        generator = torch.Generator().manual_seed(epoch)
        for _ in learn(network, batches(given, 40, generator), optimizer):
            pass
    run = pcg.Scheduler(network).run(data.test_images[:300], record=["predictions"])
    found = sum(
        run.predictions[edge.name][-1] for edge in network.graph.edges.values() if edge.target == "label"
    )
    assert (found.argmax(1) == data.test_labels[:300]).float().mean() > 0.45


def test_the_layer_that_predicts_itself_recalls_what_it_has_stored() -> None:
    network, images = pcg.build(shipped_spec("pc_hopfield")), digits().train_images[:10]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in learn(network, [{"image": images}] * 150, optimizer, steps=1):
        pass
    held = torch.zeros(1, 28, 28, dtype=torch.bool)
    held[:, :14] = True
    scheduler = pcg.Scheduler(network)
    recalled = scheduler.run(images, mask={"image": held}, steps=300).state.values["image"]
    assert torch.equal(recalled[:, :, :14], images[:, :, :14])
    distances = torch.cdist(recalled.flatten(1), images.flatten(1))
    assert distances.argmin(1).tolist() == list(range(10))
    start = scheduler.start(images, mask={"image": held}).values["image"]
    assert (recalled - images).square().mean() < 0.5 * (start - images).square().mean()


def test_the_trained_network_classifies_and_generates() -> None:
    """What ships with pc_full is trained: 91.5 % of the test images."""
    network, data = pcg.build(shipped_spec("pc_full")), digits()
    assert network.feedback_trained
    answer = pcg.query(network, {"image": data.test_images}, free=["label"], steps=0)
    assert (answer["label"].argmax(dim=1) == data.test_labels).float().mean() > 0.9
    made = pcg.query(network, {"label": torch.eye(10)}, free=["image"])["image"]
    average = torch.stack([data.train_images[data.train_labels == digit].mean(dim=0) for digit in range(10)])
    assert torch.equal(torch.cdist(made.flatten(1), average.flatten(1)).argmin(dim=1), torch.arange(10))


def test_the_full_graph_predicts_every_area_from_every_other() -> None:
    graph = pcg.build(shipped_spec("pc_full")).graph
    pairs = {(source, edge.target) for edge in graph.edges.values() for source in edge.sources}
    assert pairs == {(a, b) for a in graph.nodes for b in graph.nodes if a != b}
