"""FabricPC's side of against_fabricpc.py: runs in FabricPC's environment, an epoch a line of standard input.

Reads the file that it is given (weights and batches), trains with FabricPC's own loop, and prints one JSON
line an epoch: seconds, and the mean energy after inference.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from typing import Any

CORES = {int(core) for core in sys.argv[2].split(",")}
os.sched_setaffinity(0, CORES)  # before XLA counts the cores that it may use

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from fabricpc import setup_jax  # noqa: E402
from fabricpc.core.activations import TanhActivation  # noqa: E402
from fabricpc.core.inference import InferenceSGD  # noqa: E402
from fabricpc.core.topology import Edge  # noqa: E402
from fabricpc.graph_assembly import TaskMap, graph  # noqa: E402
from fabricpc.graph_initialization import FeedforwardStateInit, initialize_params  # noqa: E402
from fabricpc.nodes import Linear  # noqa: E402
from fabricpc.training import train  # noqa: E402

setup_jax("cpu")
given = np.load(sys.argv[1])
settings = json.loads(str(given["settings"]))
sizes = settings["sizes"]
nodes = [
    Linear(shape=(size,), name=f"n{level}", **({"activation": TanhActivation()} if 0 < level < 3 else {}))
    for level, size in enumerate(sizes)
]
structure = graph(
    nodes=nodes,
    edges=[Edge(source=a, target=b.slot("in")) for a, b in itertools.pairwise(nodes)],
    task_map=TaskMap(x=nodes[0], y=nodes[-1]),
    inference=InferenceSGD(eta_infer=settings["rate"], infer_steps=settings["steps"]),
    graph_state_initializer=FeedforwardStateInit(),
)
params = initialize_params(structure, jax.random.PRNGKey(0))
for level in range(1, len(sizes)):  # the weights that pcgraph starts from
    own = params.nodes[f"n{level}"]
    (edge,) = own.weights
    own.weights[edge] = jnp.asarray(given[f"weight{level}"].T)
    own.biases["b"] = jnp.asarray(given[f"bias{level}"])[None]
images, labels = given["images"], given["labels"]
count = settings["batch"]
loader = [{"x": images[i : i + count], "y": labels[i : i + count]} for i in range(0, len(images), count)]
began = (0.0, 0.0)


def clocks() -> tuple[float, float]:
    """The time, and the processor time of this process."""
    return time.perf_counter(), time.process_time()


def epoch_done(context: Any) -> None:
    """Tell how it went, and wait until the other side has had its turn."""
    global began
    jax.block_until_ready(context.params)
    seconds, cpu = (now - then for now, then in zip(clocks(), began, strict=True))
    energy = float(context.metrics["energy"])
    print(json.dumps({"seconds": seconds, "cpu": cpu, "energy": energy}), flush=True)
    if not sys.stdin.readline():
        sys.exit()
    began = clocks()


print(json.dumps({"jax": jax.__version__, "device": jax.devices()[0].platform}), flush=True)
sys.stdin.readline()
began = clocks()
train(
    params,
    structure,
    loader,
    optax.adam(settings["lr"]),
    {"num_epochs": settings["epochs"]},
    jax.random.PRNGKey(0),
    verbose=False,
    epoch_callback=epoch_done,
)
