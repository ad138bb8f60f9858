"""FabricPC's side of against_fabricpc.py: runs in FabricPC's environment, with FabricPC's own loop."""

from __future__ import annotations

import itertools
from typing import Any

from jax_turns import Turns  # isort: skip

import jax
import jax.numpy as jnp
import optax
from fabricpc import setup_jax
from fabricpc.core.activations import TanhActivation
from fabricpc.core.inference import InferenceSGD
from fabricpc.core.topology import Edge
from fabricpc.graph_assembly import TaskMap, graph
from fabricpc.graph_initialization import FeedforwardStateInit, initialize_params
from fabricpc.nodes import Linear
from fabricpc.training import train

setup_jax("cpu")
turns = Turns()
jax.config.update("jax_enable_x64", turns.double)
sizes = turns.settings["sizes"]
nodes = [
    Linear(shape=(size,), name=f"n{level}", **({"activation": TanhActivation()} if 0 < level < 3 else {}))
    for level, size in enumerate(sizes)
]
structure = graph(
    nodes=nodes,
    edges=[Edge(source=a, target=b.slot("in")) for a, b in itertools.pairwise(nodes)],
    task_map=TaskMap(x=nodes[0], y=nodes[-1]),
    inference=InferenceSGD(eta_infer=turns.settings["rate"], infer_steps=turns.settings["steps"]),
    graph_state_initializer=FeedforwardStateInit(),
)
params = initialize_params(structure, jax.random.PRNGKey(0))
for level, (weight, bias) in enumerate(turns.layers, 1):  # the weights that pcgraph starts from
    own = params.nodes[f"n{level}"]
    (edge,) = own.weights
    own.weights[edge] = jnp.asarray(weight.T)
    own.biases["b"] = jnp.asarray(bias)[None]


def epoch_done(context: Any) -> None:
    """Let the other side have its turn."""
    jax.block_until_ready(context.params)
    learned = [context.params.nodes[f"n{level}"] for level in range(1, len(sizes))]
    layers = [(next(iter(own.weights.values())).T, own.biases["b"][0]) for own in learned]
    turns.end(float(context.metrics["energy"]), layers)


turns.begin(jax=jax.__version__)
train(
    params,
    structure,
    [{"x": images, "y": labels} for images, labels in turns.batches],
    optax.adam(turns.settings["lr"]),
    {"num_epochs": turns.settings["epochs"]},
    jax.random.PRNGKey(0),
    verbose=False,
    epoch_callback=epoch_done,
)
