# %% [markdown]
# # Predify your own CNN
#
# A network is *predified* when each of its stages predicts the one below, and the predictions are trained
# (Choksi et al. 2021). Here a small CNN of your own is trained on digits, gets feedback, and the feedback
# learns to reconstruct. It is the whole way at a small size: 1,000 images and a few epochs.

# %%
from pathlib import Path

import torch
from torch import nn

import pcgraph as pcg
from pcgraph.datasets import Batch, batches, noisy, open_data, split, subset
from pcgraph.datasets.noise import Noise
from pcgraph.learning import Feedback, ThroughTime
from pcgraph.spec import Optimizer, Train
from pcgraph.training import epoch_means, fit

torch.manual_seed(0)
cnn = nn.Sequential(
    nn.Conv2d(1, 12, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(12, 24, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Conv2d(24, 32, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(32 * 7 * 7, 10),
)

# %% [markdown]
# ## 1. The wiring
#
# States live behind the three ReLUs, and each predicts what feeds it. The model is handed to `build`; on
# the command line the spec names it, as in `model: python:my_package.models:cnn`.

# %%
spec = pcg.parse_spec(
    """
    name: pcnn
    backbone: {input: [1, 28, 28], preprocess: {mean: [0.5], std: [0.5]}}
    nodes: {e1: "1", e2: "3", e3: "5"}
    feedback: chain
    dynamics: {rule: predify, feedforward: 0.6, feedback: 0.2, error: 0.05}
    schedule: {order: sweep, steps: 5}
    """
)
network = pcg.build(spec, model=cnn)
print(network.predictors)

# %% [markdown]
# ## 2. The plain network
#
# Skip this where your network is trained already. `through_time` learns by the gradient through the steps
# of a run; with no step at all that is the customary training of the plain network. A part of the images
# is held out, and measured after every epoch.

# %%
preprocess = spec.backbone.preprocess
images = open_data("digits", "train", shape=(1, 28, 28), preprocess=preprocess)
test = open_data("digits", "test", shape=(1, 28, 28), preprocess=preprocess)
train, held = split(subset(images, range(0, 4000, 4)), 0.1)
optimizer = Optimizer(name="Adam", lr=3e-3)
settings = Train(task="through_time", steps=0, epochs=4, batch=50, optimizer=optimizer)
fit(ThroughTime(network, settings), train, settings, "plain", validation=held, device="cpu")
for epoch in epoch_means(Path("plain/losses.csv")):
    print({f"{split} {name}": round(v, 3) for split, means in epoch.items() for name, v in means.items()})

# %% [markdown]
# ## 3. The feedback
#
# Each predictor learns to predict the state below it, both taken from one pass of the plain network, which
# does not move any more. The loss of each edge stands by itself in `losses.csv`. On the command line, all
# of this is
#
# ```console
# $ pcgraph train pcnn.yaml --data digits --epochs 5 --lr 0.003 --out runs/pcnn
# ```
#
# and a training that was killed goes on with `--resume`, to the same weights.

# %%
settings = Train(epochs=5, batch=50, optimizer=optimizer)
fit(Feedback(network), train, settings, "pcnn", validation=held, device="cpu")
first, *_, last = epoch_means(Path("pcnn/losses.csv"))
for edge in network.predictors:
    print(
        f"{edge}: {first['validation'][edge]:.4f} after one epoch, {last['validation'][edge]:.4f} at the end"
    )
    assert last["validation"][edge] < first["validation"][edge]

# %% [markdown]
# ## 4. What it does
#
# The folder holds the spec with its weights; here the network is still at hand. With noise on the test
# images the plain network, step 0, makes mistakes. The dynamics pull each state towards what the trained
# feedback expects.


# %%
def accuracy(network: pcg.PCNetwork, sigma: float) -> list[float]:
    """Percent of the 1,000 test images at each step."""
    batch: Batch = next(batches(noisy(test, Noise("gaussian", sigma)), 1000))
    output = pcg.Scheduler(network).run(batch.images).output
    return [100 * float((step.argmax(1) == batch.labels).float().mean()) for step in output]


for sigma in (0.0, 0.5, 1.0, 1.5):
    print(f"sigma {sigma}:", " ".join(f"{percent:5.1f}" for percent in accuracy(network, sigma)))

# %% [markdown]
# How strongly each node should follow its feedback depends on the network and on the noise, and can be
# learned, too: that is what `pcgraph tune` does. To see what the *trained* feedback is worth, compare with
# predictors that never learned.

# %%
untrained = pcg.build(spec, model=network.drive.model)
for sigma in (0.5, 1.0):
    learned, random = accuracy(network, sigma), accuracy(untrained, sigma)
    print(f"sigma {sigma}, untrained feedback:", " ".join(f"{percent:5.1f}" for percent in random))
    assert learned[-1] > learned[0]

# %% [markdown]
# The dynamics help with both, and here the feedback that never learned helps as much or more: its predictions
# are small, and damp noisy states. So little of the gain is owed to what the feedback has learned in five
# epochs of 900 digits. A control like this one belongs beside every such figure; `pcgraph study` compares
# whole sets of them, with intervals.
