# %% [markdown]
# # Learning without backprop
#
# Backpropagation carries one error from the output through the whole network. A predictive-coding
# network first lets its states settle between what is clamped, and then every edge moves its own
# weights by its own error. Nothing has to travel further than one edge.

# %%
import time

import torch
import torch.nn.functional as F

import pcgraph as pcg
from pcgraph.datasets import digits
from pcgraph.learning import batches, learn, stability_margin, weight_gradients

torch.manual_seed(0)
data = digits()  # 4,000 + 1,000 images of MNIST, shipped with pcgraph
images, labels = data.train_images[:2000], F.one_hot(data.train_labels[:2000], 10).float()

# %% [markdown]
# ## A network
#
# The last edge has the energy `categorical`: it predicts logits, and its error costs cross-entropy.

# %%
spec = pcg.parse_spec(
    """
    name: classifier
    nodes: {image: {shape: [1, 28, 28]}, hidden: {shape: [64]}, label: {shape: [10]}}
    edges:
      - {source: image, target: hidden, predictor: [Flatten, Linear, Tanh]}
      - {source: hidden, target: label, predictor: [Linear], energy: categorical}
    dynamics: {rule: energy, rate: 0.1}
    schedule: {steps: 10}
    """
)

# %% [markdown]
# ## What one batch teaches
#
# `weight_gradients` gives what a rule would do, and moves nothing. Inference learning (`il`) is close to
# backpropagation (`bp`) but not the same; zero-divergence learning (`zil`) is the same to the last digits.

# %%
network = pcg.build(spec).double()
batch = {"image": images[:50], "label": labels[:50]}
gradients = {rule: weight_gradients(network, batch, rule=rule) for rule in ("bp", "il", "zil")}
for rule in ("il", "zil"):
    for name, plain in gradients["bp"].items():
        distance = (gradients[rule][name] - plain).norm() / plain.norm()
        print(f"{rule:4} {name:32} differs from bp by {distance:.1e}")
        assert distance < (1e-12 if rule == "zil" else 0.7)

# %% [markdown]
# ## Train
#
# The loop is yours: `learn` is a generator that moves the weights once a batch (or, with `rule="ipc"`,
# at every step of inference) and hands back the states and energies. Any optimizer of torch will do.

# %%
for rule in ("bp", "il"):
    network = pcg.build(spec)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    began = time.perf_counter()
    for _ in range(4):
        for _ in learn(network, batches({"image": images, "label": labels}, 50), optimizer, rule=rule):
            pass
    guess = pcg.Scheduler(network).start(data.test_images).values["label"].argmax(dim=1)
    right = (guess == data.test_labels).float().mean()
    print(f"{rule}: {right:.1%} of the test images, {time.perf_counter() - began:.1f} s")
    assert right > 0.8

# %% [markdown]
# ## How fast may the states move?
#
# Above a certain rate inference diverges. The margin says how much room there is.

# %%
margin = stability_margin(network, batch, iterations=30)
print(f"the rate 0.1 could be {margin:.1f} times larger")
assert margin > 1

# %% [markdown]
# ## Edges in both directions
#
# Add feedback edges, and they learn by their own errors at the same time. `specs/pc_full.yaml` connects
# every area to every other; after a little training, clamping a label and nothing else makes an image. The
# shipped file names weights that are trained already, so they are left out here.

# %%
from pcgraph.files.shipped import shipped_spec  # noqa: E402

full = pcg.load_spec(shipped_spec("pc_full"))
network = pcg.build(full.model_copy(update={"weights": None}))
optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
for _ in range(2):
    for _ in learn(network, batches({"image": images, "label": labels}, 100), optimizer, steps=10):
        pass
run = pcg.Scheduler(network).run(clamp={"label": torch.eye(10)}, steps=400)
made = run.state.values["image"]
average = torch.stack([images[labels[:, digit] == 1].mean(dim=0) for digit in range(10)])
alike = torch.cdist(made.flatten(1), average.flatten(1)).argmin(dim=1)
print("asked for", list(range(10)), "and got what is most like", alike.tolist())
assert (alike == torch.arange(10)).float().mean() > 0.7
for row in made[3, 0, ::2, ::1]:
    print("".join(" .:*#"[min(4, max(0, int(8 * value)))] for value in row.tolist()))
