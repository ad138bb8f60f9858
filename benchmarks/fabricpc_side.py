"""FabricPC's side of against_fabricpc.py: runs in FabricPC's environment, with FabricPC's own loop."""

from __future__ import annotations

import itertools
from typing import Any

from jax_turns import Turns  # isort: skip

import jax
import jax.numpy as jnp
import numpy as np
import optax
from fabricpc import setup_jax
from fabricpc.core.activations import ReLUActivation, TanhActivation
from fabricpc.core.inference import InferenceSGD
from fabricpc.core.topology import Edge
from fabricpc.graph_assembly import TaskMap, graph
from fabricpc.graph_initialization import FeedforwardStateInit, initialize_params
from fabricpc.nodes import ConvNode, Linear
from fabricpc.training import train
from jax import lax

setup_jax("cpu")
turns = Turns()
jax.config.update("jax_enable_x64", turns.double)
ACTIVATIONS = {"tanh": {"activation": TanhActivation()}, "relu": {"activation": ReLUActivation()}, None: {}}


class Pooled(ConvNode):
    """FabricPC's convolution, and the maximum of each 2x2 within the same node."""

    @staticmethod
    def initialize_params(key: Any, node_shape: Any, *arguments: Any, **named: Any) -> Any:
        """The same: its map is twice as large each way."""
        height, width, channels = node_shape
        return ConvNode.initialize_params(key, (2 * height, 2 * width, channels), *arguments, **named)

    @staticmethod
    def predict(params: Any, inputs: Any, state: Any, node_info: Any) -> tuple[Any, None]:
        """As `ConvNode.predict`, which adds to zeros in the node's shape."""
        ((key, x),) = inputs.items()
        given = node_info.node_config
        maps = lax.conv_general_dilated(
            x,
            params.weights[key],
            given["stride"],
            given["padding"],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        activation = node_info.activation
        maps = type(activation).forward(maps + params.biases["b"], activation.config)
        return lax.reduce_window(maps, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"), None


def channels_last(shape: list[int]) -> tuple[int, ...]:
    """FabricPC's maps are channels-last."""
    return (*shape[1:], shape[0])


def node(level: int, layer: dict[str, Any], below: tuple[int, ...]) -> tuple[Any, tuple[int, ...]]:
    """A layer above a state of shape ``below``, and the shape of its own."""
    named = {"name": f"n{level}", **ACTIVATIONS[layer["activation"]]}
    if layer["kind"] == "conv":
        side = (below[0] + 2 * layer["padding"] - 2) // 2
        padding, shape = [(layer["padding"],) * 2] * 2, (side, side, layer["outputs"])
        return Pooled(shape=shape, kernel_size=(3, 3), padding=padding, **named), shape
    assert len(below) == 1 or below[:2] == (1, 1)  # or the order of the numbers would be another one
    shape = (layer["outputs"],)
    return Linear(shape=shape, flatten_input=len(below) > 1, **named), shape


settings = turns.settings
below = channels_last(settings["shape"])
nodes = [Linear(shape=below, name="n0")]
for level, layer in enumerate(settings["layers"], 1):
    one, below = node(level, layer, below)
    nodes.append(one)
structure = graph(
    nodes=nodes,
    edges=[Edge(source=a, target=b.slot("in")) for a, b in itertools.pairwise(nodes)],
    task_map=TaskMap(x=nodes[0], y=nodes[-1]),
    inference=InferenceSGD(eta_infer=settings["rate"], infer_steps=settings["steps"]),
    graph_state_initializer=FeedforwardStateInit(),
)
params = initialize_params(structure, jax.random.PRNGKey(0))
for level, (weight, bias) in enumerate(turns.layers, 1):  # the weights that pcgraph starts from
    own = params.nodes[f"n{level}"]
    (edge,) = own.weights
    own.weights[edge] = jnp.asarray(weight.transpose(range(1, -1, -1) if weight.ndim == 2 else (2, 3, 1, 0)))
    own.biases["b"] = jnp.asarray(bias).reshape(own.biases["b"].shape)


def learned(own: Any) -> tuple[Any, Any]:
    """A layer's weights as torch has them."""
    weight = np.asarray(next(iter(own.weights.values())))
    return weight.transpose((1, 0) if weight.ndim == 2 else (3, 2, 0, 1)), own.biases["b"].reshape(-1)


def epoch_done(context: Any) -> None:
    """Let the other side have its turn."""
    jax.block_until_ready(context.params)
    layers = [learned(context.params.nodes[f"n{level}"]) for level in range(1, len(nodes))]
    turns.end(float(context.metrics["energy"]), layers)


turns.begin(jax=jax.__version__)
train(
    params,
    structure,
    [
        {"x": np.moveaxis(images, 1, -1) if images.ndim > 2 else images, "y": labels}
        for images, labels in turns.batches
    ],
    optax.adam(settings["lr"]),
    {"num_epochs": settings["epochs"]},
    jax.random.PRNGKey(0),
    verbose=False,
    epoch_callback=epoch_done,
)
