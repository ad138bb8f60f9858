# %% [markdown]
# # A network with no backbone
#
# A predictive-coding network needs no CNN: nodes have shapes, edges are written out, and the states
# slide down the energy `F = sum of precision * error^2 / 2`. There is no order of layers to respect,
# so a graph with cycles is as good as a chain. Clamp what you know; the rest settles.

# %%
import torch

import pcgraph as pcg

spec = pcg.parse_spec(
    """
    name: ring
    nodes:
      sound: {shape: [6]}
      left: {shape: [8]}
      right: {shape: [8]}
      sight: {shape: [6]}
    edges:
      - {source: sound, target: left, predictor: [Linear]}
      - {source: left, target: right, predictor: [Linear]}
      - {source: right, target: left, predictor: [Linear]}
      - {source: right, target: sight, predictor: [Linear], precision: 2.0}
    dynamics: {rule: energy, rate: 0.05}
    schedule: {steps: 5000, tolerance: 1.0e-9}
    """
)
network = pcg.build(spec).double()
scheduler = pcg.Scheduler(network)

# %% [markdown]
# ## Settle with both ends clamped
#
# `sound` is the first node, so it takes the inputs; `sight` is clamped by name.

# %%
torch.manual_seed(0)
sound, sight = torch.randn(3, 6), torch.randn(3, 6)
run = scheduler.run(sound, clamp={"sight": sight}, record=["energy"])
total = torch.stack([sum(run.energy[e][t].sum() for e in run.energy) for t in range(run.steps + 1)])
print(f"energy {total[0]:.4f} -> {total[-1]:.4f} in {run.steps} steps; converged: {run.converged}")
assert run.converged
assert (total.diff() <= 1e-12).all()  # the energy never rises

# %% [markdown]
# With linear predictions the settled state solves a linear system; the gradient of the energy is zero.

# %%
free = {name: run.state.values[name].clone().requires_grad_() for name in ("left", "right")}
values = {**run.state.values, **free}
energy = sum(
    edge.precision
    / 2
    * (values[edge.target] - network.predictors[edge.name](values[edge.sources[0]])).square().sum()
    for edge in network.graph.edges.values()
)
for gradient in torch.autograd.grad(energy, list(free.values())):
    assert gradient.abs().max() < 1e-6

# %% [markdown]
# ## Ask another question of the same network
#
# Clamp half of `sight` and nothing else of it: the mask says which part is held, and the network
# fills in the rest.

# %%
half = torch.tensor([True, True, True, False, False, False])
run = scheduler.run(sound, clamp={"sight": sight}, mask={"sight": half})
filled = run.state.values["sight"]
assert torch.equal(filled[:, :3], sight[:, :3].double())
print("completed:", [round(v, 3) for v in filled[0].tolist()])
