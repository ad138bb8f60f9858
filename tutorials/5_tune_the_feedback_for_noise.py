# %% [markdown]
# # Tune the feedback for noise
#
# How much of its feedback should a layer believe? Under noise, more than usual. `pcgraph tune` finds the
# values of beta, lambda, memory and alpha by gradient, through the steps of a run on noisy images. Here it
# is done at a small size, on the digits network that comes with pcgraph. Its backbone never saw noise. Its
# feedback has learned to reconstruct clean images, and then, together with those values, to classify noisy
# ones.

# %%
from pathlib import Path

import torch

import pcgraph as pcg
from pcgraph.datasets import batches, noisy, open_data, preprocess_for, split, subset
from pcgraph.datasets.noise import Noise
from pcgraph.files.shipped import shipped_spec
from pcgraph.learning import DynamicsTask, with_noise
from pcgraph.spec import Optimizer, PredifyDynamics, Tune, TuningNoise
from pcgraph.training import fit

torch.manual_seed(0)
shipped = pcg.load_spec(shipped_spec("digits"))

# %% [markdown]
# ## Before
#
# Forget the tuned values that are shipped, and begin with the same ones for all layers.

# %%
start = PredifyDynamics(feedforward=0.6, feedback=0.3, error=0.02)
spec = shipped.model_copy(update={"dynamics": start})
network = pcg.build(spec)
preprocess = preprocess_for(spec.backbone)
test = subset(open_data("digits", "test", shape=(1, 28, 28), preprocess=preprocess), range(200))


def accuracy(net: pcg.PCNetwork, sigma: float, steps: int = 8) -> torch.Tensor:
    """Accuracy at each step under Gaussian noise."""
    (batch,) = batches(noisy(test, Noise("gaussian", sigma)), len(test))
    outputs = pcg.Scheduler(net).run(batch.images, steps).output
    return torch.stack([(output.argmax(1) == batch.labels).float().mean() for output in outputs])


before = accuracy(network, 0.75)
print("sigma 0.75, by step:", [f"{value:.0%}" for value in before])

# %% [markdown]
# ## Tune
#
# Each training image gets noise of its own level, from none to sigma 1.2, and each batch runs for a number of
# steps of its own: values that are good at one step only would not last. Only nine values move, three a
# layer; the network and its feedback stay as they are. In a spec this section is called `tune:`, and the
# command is `pcgraph tune SPEC --out FOLDER`.

# %%
settings = Tune(
    epochs=1,
    batch=20,
    noise=TuningNoise(gaussian=(0.0, 1.2)),
    steps=(2, 6),
    optimizer=Optimizer(lr=0.1),
    validation=0.2,
)
train = open_data("digits", "train", shape=(1, 28, 28), preprocess=preprocess)
images, held = (
    with_noise(part, settings.noise) for part in split(subset(train, range(600)), settings.validation)
)
task = DynamicsTask(network, settings)
folder = Path("tuned")
fit(task, images, settings, folder, validation=held, trackers=[], device="cpu")

# %% [markdown]
# ## After
#
# The folder holds an ordinary spec. The tuned values are plain numbers in it, so whoever reads it sees what
# was found, and nothing but the spec is needed to use it.

# %%
tuned = pcg.build(folder / "spec.yaml")
for node, gains in tuned.spec.dynamics.nodes.items():
    print(f"{node}: beta {gains.feedforward:.2f}, lambda {gains.feedback:.2f}, alpha {gains.error:.2f}")
after = accuracy(tuned, 0.75)
print("sigma 0.75, by step:", [f"{value:.0%}" for value in after])
assert after[0] == before[0], "step 0 is the plain network"
assert after.max() > after[0] + 0.05, "the feedback helps"

# %% [markdown]
# ## With the shipped values
#
# They come from more images and more batches, and the feedback's weights moved with them
# (`learns: [dynamics, predictors]`), in the study that the page *Robustness* describes.

# %%
full = accuracy(pcg.build(shipped), 0.75)
print("sigma 0.75, by step:", [f"{value:.0%}" for value in full])
