# %% [markdown]
# # From a CNN to predictive-coding dynamics
#
# You have a convolutional network. You want each of its stages to predict the stage below, and to see
# what the network does when these predictions and their errors move its activities. This takes a
# trace, a spec and a scheduler. The network here is small and random, so that everything is instant;
# `torchvision:resnet50` or a model of your own work the same way.

# %%
import torch
from torch import nn

import pcgraph as pcg

torch.manual_seed(0)
cnn = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1),
    nn.ReLU(inplace=True),
    nn.Conv2d(16, 32, 3, stride=2, padding=1),
    nn.ReLU(inplace=True),
    nn.Conv2d(32, 64, 3, stride=2, padding=1),
    nn.ReLU(inplace=True),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(64, 10),
).eval()

# %% [markdown]
# ## 1. Where can states live?
#
# `trace` lists every place in the model by its qualified name, with its shape and its cost in
# multiply-adds. Any of them can become a node.

# %%
print(pcg.trace(cnn, input_shape=(3, 32, 32)))

# %% [markdown]
# ## 2. The wiring, in a few lines
#
# The three ReLU outputs become nodes. `chain` gives each node a prediction of the nodes that feed it:
# `e3` predicts `e2`, `e2` predicts `e1`, and `e1` predicts the image. A file with these lines does the
# same; `pcgraph new MODEL -o SPEC` writes a first one.

# %%
spec = pcg.parse_spec(
    """
    name: my-first
    backbone: {input: [3, 32, 32]}   # the model itself is handed to build below
    nodes: {e1: "1", e2: "3", e3: "5"}
    feedback: chain
    dynamics: {rule: predify, feedforward: 0.4, feedback: 0.2, error: 0.1}
    schedule: {order: sweep, steps: 8}
    """
)
network = pcg.build(spec, model=cnn)
print(network)
print(network.drive.code)

# %% [markdown]
# A notebook that ends a cell with `network` draws the wiring. The printed program is the CNN cut at the
# nodes: each prediction is computed from the states below.
#
# ## 3. Run it
#
# Nothing is kept but what you ask for. Index 0 of every series is the start.

# %%
images = torch.randn(4, 3, 32, 32)
scheduler = pcg.Scheduler(network)
run = scheduler.run(images, record=["output", "values:e2", "errors:e1->input", "energy"])

with torch.no_grad():
    assert torch.equal(run.output[0], cnn(images))  # step 0 is the plain network, exactly
print("states of e2 at the last step:", tuple(run.values["e2"][-1].shape))
print("what e1 gets wrong about the image:", tuple(run.errors["e1->input"][-1].shape))
for edge, energy in run.energy.items():
    print(f"{edge:10}", "  ".join(f"{e.mean():9.2f}" for e in energy))

# %% [markdown]
# The energy of a feedforward edge is zero at the start, where every state is what the network computes,
# and rises as feedback pulls the states away from it. Between the nodes the feedback's energies fall.
# The error about the image need not: `e1` now also follows `e2`. (Feedback with random weights has
# nothing true to say; it is trained before anything is concluded from it.)

# %%
assert all(run.energy[edge][0].max() == 0 for edge in ["input->e1", "e1->e2", "e2->e3"])
assert all(run.energy[edge][-1].mean() < run.energy[edge][0].mean() for edge in ["e2->e1", "e3->e2"])

# %% [markdown]
# ## 4. One step at a time
#
# A state is a value, and a step makes a new one. So you can look, branch, or go back.

# %%
state = scheduler.start(images)
for _ in range(8):
    state = scheduler.step(state)
assert torch.equal(scheduler.readout(state), run.output[8])

# %% [markdown]
# If the output is all you want, the network is a module like any other.

# %%
with torch.no_grad():
    assert torch.equal(network(images, steps=8), run.output[8])

# %% [markdown]
# ## 5. Change the wiring
#
# One line. Below, every node also predicts the image.

# %%
wider = pcg.parse_spec({**spec.dump(), "feedback": ["chain", "to_input"]})
print("edges:", *pcg.build(wider, model=cnn).graph.edges)
