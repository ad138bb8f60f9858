# %% [markdown]
# # Attack it
#
# An adversarial attack looks for a small change of an image that makes the network answer wrongly. With
# dynamics the question has a second half: *which step's* output is attacked, and what do the other steps
# answer to the same image? The gradient goes through all steps up to the attacked one, so the attack knows
# the dynamics. Attacks are run by foolbox (`pip install 'pcgraph[evaluate]'`).

# %%
import foolbox
import torch
from torch import nn

import pcgraph as pcg
from pcgraph.datasets import batches, open_data, subset
from pcgraph.evaluation import Attack, AttackedStep, Settings, evaluate, tabulate
from pcgraph.learning import Feedback, ThroughTime
from pcgraph.spec import Optimizer, Train
from pcgraph.training import fit

torch.manual_seed(0)
cnn = nn.Sequential(
    nn.Conv2d(1, 12, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Conv2d(12, 24, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Conv2d(24, 24, 3, padding=1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(24 * 7 * 7, 10),
)

# %% [markdown]
# ## A network to attack
#
# As in the tutorial "Predify your own CNN": first the plain network learns, then its feedback.

# %%
spec = pcg.parse_spec(
    """
    name: attacked
    backbone: {input: [1, 28, 28], preprocess: {mean: [0.5], std: [0.5]}}
    nodes: {e1: "1", e2: "3", e3: "5"}
    feedback: chain
    dynamics: {rule: predify, feedforward: 0.4, feedback: 0.3, error: 0.1, gradient: normalized}
    schedule: {order: sweep, steps: 4}
    """
)
network = pcg.build(spec, model=cnn)
preprocess = spec.backbone.preprocess
images = open_data("digits", "train", shape=(1, 28, 28), preprocess=preprocess)
test = subset(open_data("digits", "test", shape=(1, 28, 28), preprocess=preprocess), range(0, 1000, 10))
settings = Train(task="through_time", steps=0, epochs=3, batch=50, optimizer=Optimizer(name="Adam", lr=3e-3))
fit(ThroughTime(network, settings), images, settings, "plain", device="cpu")
settings = Train(epochs=2, batch=50, optimizer=Optimizer(name="Adam", lr=3e-3))
fit(Feedback(network), images, settings, "feedback", device="cpu")
network.requires_grad_(False)

# %% [markdown]
# ## One batch, by hand
#
# `AttackedStep` makes a plain classifier of a network and a step: pixels from 0 to 1 go in, the logits at
# that step come out, and gradients flow back through the unrolled dynamics. Any attack that takes a PyTorch
# model can be turned on it.

# %%
batch = next(batches(test, 20))
pixels = (batch.images * 0.5 + 0.5).clamp(0, 1)
model = AttackedStep(pcg.Scheduler(network), step=4, preprocess=preprocess)
attack = foolbox.attacks.LinfPGD(steps=10, rel_stepsize=0.25)
_, adversarial, success = attack(
    foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu"), pixels, batch.labels, epsilons=0.1
)
print(f"wrong answers at step 4: {success.float().mean():.0%} of {len(batch)} images")
assert (adversarial - pixels).abs().max() <= 0.1 + 1e-6

# %% [markdown]
# ## All of it
#
# `evaluate` runs attacks like any other condition: for each it keeps the answers at *every* step. `pgd`
# starts at a random point that belongs to the image and the seed, `bim` at the image itself. On the command
# line this is
#
# ```console
# $ pcgraph evaluate attacked.yaml --data digits --limit 100 --steps 4 \
#       --attack pgd:0.05,0.1 --target-step 0,4 --iterations 10
# ```

# %%
attacks = [Attack("pgd", eps, step, iterations=10) for eps in (0.05, 0.1) for step in (0, 4)]
measured = evaluate(network, test, attacks, Settings(steps=4, batch=50))
rows = tabulate(test.name, [measured], classes=10)
for row in rows:
    if row.metric == "attack_success" and row.step in (0, 4):
        print(
            f"{row.noise} at {row.level}: fools step {row.step} in {row.value:.0%} "
            f"({row.low:.0%} to {row.high:.0%}) of {row.n} images"
        )

# %% [markdown]
# An attack counts where the clean image was answered rightly at the attacked step. What fools step 0, the
# plain network, need not fool step 4, and the other way round: compare the two numbers of an attack. A low
# number for the *other* step says that the attack does not carry over; only a low number for the
# *attacked* step says that the network resists somebody who knows it. And a stronger attack (more
# iterations, a larger epsilon) has to succeed more often; where it does not, suspect the gradient before
# you believe in robustness.


# %%
def success_at(noise: str, epsilon: float, step: int) -> float:
    """The share of images that an attack fools at a step."""
    return next(
        row.value
        for row in rows
        if (row.metric, row.noise, row.level, row.step) == ("attack_success", noise, epsilon, step)
    )


for step in (0, 4):
    assert success_at(f"pgd@{step}", 0.1, step) > success_at(f"pgd@{step}", 0.05, step)

# %% [markdown]
# ## Towards a class
#
# A targeted attack counts where the network answers with one class that the attacker chose: here, as in the
# study of Choksi et al., the class 80% of all classes further on. It is much harder to reach.

# %%
measured = evaluate(network, test, [Attack("bim", 0.1, 4, 10, targeted=True)], Settings(steps=4, batch=50))
hits = measured["bim-targeted@4:0.1"]["success"][4].float().mean()
print(f"targeted: {hits:.0%} of the images reach their target at step 4")
assert hits <= success_at("pgd@4", 0.1, 4)
