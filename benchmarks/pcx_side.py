"""PCX's side of against_pcx.py: runs in PCX's environment, with its layers, states, energies and optimizers.

PCX leaves the loop to its user. This one is as in its tutorials: one compiled function a batch, which starts
at the predictions, moves the states down the energy, and then the weights. Only, the steps are PCX's `scan`
in place of a loop that is unrolled: it compiles in a third of the time, and is no slower.
"""

from __future__ import annotations

from typing import Any

from jax_turns import Turns  # isort: skip

import jax
import jax.numpy as jnp
import optax
import pcx as px
import pcx.functional as pxf
import pcx.nn as pxnn
import pcx.predictive_coding as pxc
import pcx.utils as pxu

turns = Turns()
jax.config.update("jax_enable_x64", turns.double)
BATCHED = pxu.M(pxc.VodeParam | pxc.VodeParam.Cache).to((None, 0))
ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu, None: lambda x: x}
STATES, WEIGHTS = pxu.M_hasnot(pxc.VodeParam, frozen=True), pxu.M(pxnn.LayerParam)


class Layered(pxc.EnergyModule):
    """Dense or convolutional layers with a state after each; the last state is the label."""

    def __init__(self, shape: list[int], layers: list[dict[str, Any]], shapes: list[tuple[int, ...]]) -> None:
        super().__init__()
        self.layers = [
            pxnn.Conv2d(weight[1], weight[0], 3, padding=layer["padding"])
            if layer["kind"] == "conv"
            else pxnn.Linear(weight[1], weight[0])
            for layer, weight in zip(layers, shapes, strict=True)
        ]
        self.pool = pxnn.MaxPool2d(2, 2)
        self.kinds = px.static(tuple((layer["kind"], layer["activation"]) for layer in layers))
        self.vodes = [pxc.Vode() for _ in self.layers]
        self.vodes[-1].h.frozen = True

    def __call__(self, x: jax.Array, y: jax.Array | None) -> None:
        for layer, (kind, activation), vode in zip(self.layers, self.kinds.get(), self.vodes, strict=True):
            x = layer(x if kind == "conv" else x.reshape(-1))
            x = ACTIVATIONS[activation](x)
            x = vode(self.pool(x) if kind == "conv" else x)
        if y is not None:
            self.vodes[-1].set("h", y)


@pxf.vmap(BATCHED, in_axes=(0, 0), out_axes=None)
def start(x: jax.Array, y: jax.Array, *, model: Layered) -> None:
    """States at their predictions, and the label."""
    model(x, y)


@pxf.vmap(BATCHED, in_axes=(0,), out_axes=None, axis_name="batch")
def energy(x: jax.Array, *, model: Layered) -> jax.Array:
    """The energy, summed over the batch."""
    model(x, None)
    return jax.lax.psum(model.energy(), "batch")


def move(_: None, x: jax.Array, *, model: Layered, states: pxu.Optim) -> tuple[jax.Array, None]:
    """One step of inference."""
    with pxu.step(model, clear_params=pxc.VodeParam.Cache):
        _, gradient = pxf.value_and_grad(STATES.to([False, True]))(energy)(x, model=model)
    states.step(model, gradient["model"])
    return x, None


@pxf.jit(static_argnums=0)
def learn(
    steps: int, x: jax.Array, y: jax.Array, *, model: Layered, states: pxu.Optim, weights: pxu.Optim
) -> jax.Array:
    """One batch: inference, then the weights. Returns the mean energy after inference."""
    with pxu.step(model, (pxc.STATUS.INIT, None), clear_params=pxc.VodeParam.Cache):
        start(x, y, model=model)
    states.init(STATES(model))
    pxf.scan(move, length=steps)(x, model=model, states=states)
    states.clear()
    with pxu.step(model, clear_params=pxc.VodeParam.Cache):
        total, gradient = pxf.value_and_grad(WEIGHTS.to([False, True]))(energy)(x, model=model)
    weights.step(model, gradient["model"], scale_by=1 / len(x))
    return total / len(x)


settings = turns.settings
model = Layered(settings["shape"], settings["layers"], [weight.shape for weight, _ in turns.layers])
for layer, (weight, bias) in zip(model.layers, turns.layers, strict=True):  # pcgraph starts from them, too
    layer.nn.weight.set(jnp.asarray(weight))
    layer.nn.bias.set(jnp.asarray(bias).reshape(layer.nn.bias.shape))
batches = [(jnp.asarray(images), jnp.asarray(labels)) for images, labels in turns.batches]
with pxu.step(model, (pxc.STATUS.INIT, None), clear_params=pxc.VodeParam.Cache):
    start(*batches[0], model=model)  # or the second batch would compile once more, for states that are there
states = pxu.Optim(lambda: optax.sgd(settings["rate"]))
weights = pxu.Optim(lambda: optax.adam(settings["lr"]), WEIGHTS(model))

turns.begin(jax=jax.__version__)
while True:  # until against_pcx.py has had enough
    energies = [
        learn(settings["steps"], x, y, model=model, states=states, weights=weights) for x, y in batches
    ]
    learned = [(layer.nn.weight.get(), layer.nn.bias.get().reshape(-1)) for layer in model.layers]
    jax.block_until_ready((energies, learned))
    turns.end(sum(map(float, energies)) / len(energies), learned)
