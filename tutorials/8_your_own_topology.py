# %% [markdown]
# # Your own topology
#
# Any graph will do: no layers, no direction, cycles and self-connections included. This page writes a
# ring of areas by hand, lets networkx draw another graph, trains both, and looks at what they do.

# %%
import networkx as nx
import torch
import torch.nn.functional as F

import pcgraph as pcg
from pcgraph.datasets import digits
from pcgraph.learning import batches, learn, stability_margin

torch.manual_seed(0)
data = digits()
images, labels = data.train_images[:1000], F.one_hot(data.train_labels[:1000], 10).float()

# %% [markdown]
# ## By hand
#
# Three areas in a ring, one of them also predicting itself. Edges that carry the same `bundle` add up to one
# prediction, with one error; that is how a neuron with many inputs is written. An edge down to the
# image makes the network a generator as well.

# %%
ring = pcg.parse_spec(
    """
    name: ring
    nodes:
      image: {shape: [1, 28, 28]}
      left: {shape: [48]}
      top: {shape: [48]}
      right: {shape: [48]}
      label: {shape: [10]}
    edges:
      - {source: image, target: left, predictor: [Flatten, Linear], bundle: into_left}
      - {source: left, target: left, predictor: [Tanh, Linear], bundle: into_left}
      - {source: right, target: left, predictor: [Tanh, Linear], bundle: into_left}
      - {source: image, target: right, predictor: [Flatten, Linear], bundle: into_right}
      - {source: left, target: top, predictor: [Tanh, Linear]}
      - {source: top, target: right, predictor: [Tanh, Linear], bundle: into_right}
      - {source: top, target: label, predictor: [Tanh, Linear], bundle: into_label}
      - {source: right, target: label, predictor: [Tanh, Linear], bundle: into_label}
    feedback:
      - {source: left, target: image, predictor: [Tanh, Linear, Unflatten], precision: 0.1}
    dynamics: {rule: energy, rate: 0.1}
    schedule: {steps: 20}
    """
)
network = pcg.build(ring)
view = network.graph.to_networkx()
print("cycles:", sorted(" -> ".join(cycle) for cycle in nx.simple_cycles(nx.DiGraph(view))))

# %% [markdown]
# ## Is the rate small enough?
#
# A graph with cycles can be less stable than a layered one. The margin says how much larger the rates could
# be before inference diverges; below 1 it does.

# %%
batch = {"image": images[:20], "label": labels[:20]}
margin = stability_margin(network, batch, iterations=30)
print(f"the rates could be {margin:.1f} times larger")
assert margin > 1

# %% [markdown]
# ## Train and ask
#
# Inference learning needs no order among the areas: the states settle, and every edge learns from its own
# error.


# %%
def train(network: pcg.PCNetwork, epochs: int) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(epochs):
        for _ in learn(network, batches({"image": images, "label": labels}, 50), optimizer, steps=20):
            pass


def accuracy(network: pcg.PCNetwork) -> float:
    answer = pcg.query(network, {"image": data.test_images[:200]}, free=["label"], steps=20)
    return float((answer["label"].argmax(dim=1) == data.test_labels[:200]).float().mean())


train(network, 4)
print(f"ring: {accuracy(network):.1%} of the test images")
assert accuracy(network) > 0.5

# %% [markdown]
# ## From a generator
#
# A spec is plain data, so any program can write one. Here networkx draws a small-world graph of eight little
# areas that all see the image; its arcs become edges, each area's inputs one bundle. (In a spec file, `mask`
# and the generators of the spec reference do it without Python.)

# %%
world = nx.connected_watts_strogatz_graph(8, k=4, p=0.3, seed=1)
areas = [f"area{number}" for number in world]
edges = [
    {"source": "image", "target": area, "predictor": ["Flatten", "Linear"], "bundle": f"into_{area}"}
    for area in areas
]
for one, other in world.to_directed().edges:
    edge = {"source": areas[one], "target": areas[other], "predictor": ["Tanh", "Linear"]}
    edges.append({**edge, "bundle": f"into_{areas[other]}"})
edges += [
    {"source": area, "target": "label", "predictor": ["Tanh", "Linear"], "bundle": "into_label"}
    for area in areas
]
nodes = {
    "image": {"shape": [1, 28, 28]},
    **{area: {"shape": [24]} for area in areas},
    "label": {"shape": [10]},
}
small_world = pcg.parse_spec(
    {"name": "small-world", "nodes": nodes, "edges": edges, "dynamics": {"rule": "energy", "rate": 0.1}}
)
network = pcg.build(small_world)
print(
    len(network.graph.nodes), "nodes,", len(network.graph.edges), "edges,", len(network.graph.terms), "errors"
)
assert stability_margin(network, batch, iterations=30) > 1

# %%
train(network, 4)
print(f"small world: {accuracy(network):.1%} of the test images")
assert accuracy(network) > 0.4

# %% [markdown]
# Both are far from what a layered network reaches, after a few seconds on a quarter of the images; they
# show that it works, not how well. Graphs with cycles want small learning rates: at 1e-2 the ring learned
# less.
#
# `pcgraph show SPEC` draws the wiring, `pcgraph train SPEC` trains it without a line of Python, and
# `pcgraph query SPEC` asks it. Within an edge, too, connections can be left out: see `mask` in the
# [spec reference](../spec.md).
