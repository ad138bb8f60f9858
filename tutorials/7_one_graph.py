# %% [markdown]
# # One graph: classify, generate, remember
#
# A network in which every area predicts every other has no direction. What it does depends on what is
# held: hold the image and it classifies, hold the label and it generates, hold half of an image and it
# fills in the rest. This page asks one network all of that, and a smaller one to remember.

# %%
import torch

import pcgraph as pcg
from pcgraph.datasets import digits
from pcgraph.files.shipped import shipped_spec
from pcgraph.learning import batches, learn

torch.manual_seed(0)
data = digits()
images, labels = data.test_images[:30], data.test_labels[:30]

# %% [markdown]
# ## The network
#
# `pc_full` joins an image, a label and two hidden areas, each with each: six edges up, six down. It comes
# with weights, which `pcgraph train` made from 4,000 real digits by inference learning. The images below
# were not among them.

# %%
network = pcg.build(shipped_spec("pc_full"))
print(*network.graph.edges, sep="\n")

# %% [markdown]
# ## Classify: hold the image, read the label

# %%
answer = pcg.query(network, {"image": images}, free=["label"])
right = answer["label"].argmax(dim=1) == labels
print(f"{right.float().mean():.1%} of {len(images)} test images")
assert right.float().mean() > 0.75

# %% [markdown]
# ## Generate: hold the label, read the image
#
# The image starts in noise and settles where the energy is lowest. On the command line:
# `pcgraph query pc_full --clamp label=0-9 --clamp image=random --free image`.

# %%
noise = torch.rand(10, 1, 28, 28)
answer = pcg.query(network, {"label": torch.eye(10), "image": noise}, free=["image"], steps=150)
made = answer["image"]
asked_again = pcg.query(network, {"image": made}, free=["label"])["label"].argmax(dim=1)
print("asked for", list(range(10)), "and recognises", asked_again.tolist())
assert (asked_again == torch.arange(10)).float().mean() > 0.8

# %% [markdown]
# In the terminal, the three:

# %%
for row in made[3, 0, ::2]:
    print("".join(" .:*#"[min(4, max(0, int(8 * value)))] for value in row.tolist()))

# %% [markdown]
# ## Complete: hold the upper half of an image
#
# A mask says which part is held. The energy falls until the lower half agrees with the upper one, as far as
# the network can tell.
#
# ![Ten test images with the lower half hidden, what the network makes of it, and the whole
# images](../assets/query.png)

# %%
upper = torch.zeros(1, 28, 28, dtype=torch.bool)
upper[:, :14] = True
answer = pcg.query(network, {"image": images}, mask={"image": upper}, free=["image"], steps=150)
error = (answer["image"] - images)[:, :, 14:].square().mean()
average = (data.train_images.mean(dim=0) - images)[:, :, 14:].square().mean()
print(f"mean squared error {error:.4f}; of the average image {average:.4f}")
assert error < average

# %% [markdown]
# ## Denoise: hold the image softly
#
# What is seen is a noisy observation of the image, of a precision that you give. The image moves to where
# the network's predictions and the observation agree best.

# %%
seen = images + 0.4 * torch.randn(images.shape)
answer = pcg.query(network, {"image": seen}, soft={"image": 0.1}, steps=100)
before, after = ((one - images).square().mean() for one in (seen, answer["image"]))
print(f"mean squared error {before:.3f} before, {after:.3f} after")
assert after < before / 3

# %% [markdown]
# ## Remember: learn a few images by heart
#
# `pc_memory` has a code that predicts the image, and nothing to do but to lower its energy on what it is
# shown. Ten images are stored here, and then shown with the lower half erased.

# %%
memory = pcg.build(shipped_spec("pc_memory"))
stored = data.train_images[:10]
optimizer = torch.optim.AdamW(memory.parameters(), lr=3e-3, weight_decay=0.0)
for _ in range(60):
    for _ in learn(memory, batches({"image": stored}, 10), optimizer, steps=15):
        pass
answer = pcg.query(memory, {"image": stored}, mask={"image": upper}, free=["image"], steps=200)
lower = slice(14, None)
distance = torch.cdist(answer["image"][:, :, lower].flatten(1), stored[:, :, lower].flatten(1))
recalled = distance.argmin(dim=1) == torch.arange(10)
print(f"{recalled.sum()} of 10 recalled: nearer to the stored image than to any other")
assert recalled.float().mean() > 0.9

# %% [markdown]
# `pcgraph query` does all of this from the command line, with pictures; see [Queries](../query.md).
