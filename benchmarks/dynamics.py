"""Seconds a step: pcgraph against the hook-style baseline, the two in turn in one process."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hook_style import hook_gradient, images
from networks import pair
from table import RATIOS, Group, Measure, Record, compared
from torch import Tensor, nn

import pcgraph as pcg

DEFAULT = 20
"""Steps of a default call."""


def default(name: str, batch: int) -> Measure:
    """What a user types, who has asked for nothing: feedback that could learn, a scheduler of its own."""

    def measure(_: int, repeats: int) -> Record:
        network, hooks = pair(name)
        network.predictors.requires_grad_(True)
        given = images(batch)
        return compared(
            f"{name}, batch {batch}, default call of {DEFAULT} steps",
            lambda: hooks.run(given, DEFAULT),
            lambda: pcg.Scheduler(network).run(given, steps=DEFAULT).output[-1],
            DEFAULT,
            repeats,
        )

    return measure


def dynamics(name: str, batch: int, compiled: bool = False) -> Measure:
    """As many steps as asked for, with the output of every step."""

    def measure(steps: int, repeats: int) -> Record:
        network, hooks = pair(name)
        scheduler = pcg.Scheduler(network)
        given = images(batch)
        title = f"{name}, batch {batch}"
        plain = compared(
            title,
            lambda: hooks.run(given, steps),
            lambda: scheduler.run(given, steps=steps).output[-1],
            steps,
            repeats,
        )
        if not compiled:
            return plain
        scheduler = pcg.Scheduler(network).compile()
        row = compared(
            f"{title}, compiled",
            lambda: hooks.run(given, steps),
            lambda: scheduler.run(given, steps=steps).output[-1],
            steps,
            repeats,
        )
        saved = plain["pcgraph"] - row["pcgraph"]
        spent = row["first"] - steps * row["pcgraph"]
        return {**row, "compile": spent, "paid_off": spent / saved if saved > 0 else None}

    return measure


def in_tiles_compiled(name: str, batch: int) -> Measure:
    """Large kernels as chosen by measuring, and the steps compiled with them."""

    def measure(steps: int, repeats: int) -> Record:
        network, hooks = pair(name)
        given = images(batch)
        pcg.choose_convolutions(network, batch)
        scheduler = pcg.Scheduler(network).compile()
        row = compared(
            f"{name}, batch {batch}, optimized and compiled",
            lambda: hooks.run(given, steps),
            lambda: scheduler.run(given, steps=steps).output[-1],
            steps,
            repeats,
        )
        return {**row, "compile": row["first"] - steps * row["pcgraph"]}

    return measure


def differentiable(name: str, batch: int, checkpoint: bool) -> Measure:
    """The gradient of the last output for the images, through all steps: forward and backward."""

    def measure(steps: int, repeats: int) -> Record:
        network, hooks = pair(name)
        scheduler = pcg.Scheduler(network)
        given = images(batch).requires_grad_()
        ours = through_steps(scheduler, given, steps, checkpoint)
        title = f"{name}, batch {batch}, differentiable{', checkpointed' if checkpoint else ''}"
        return compared(title, lambda: hook_gradient(hooks, given, steps), ours, steps, repeats)

    return measure


def through_steps(
    scheduler: pcg.Scheduler, given: Tensor, steps: int, checkpoint: bool
) -> Callable[[], Tensor]:
    """Of pcgraph."""

    def gradient() -> Tensor:
        run = scheduler.run(given, steps, record=[], differentiable=True, checkpoint=checkpoint)
        output = scheduler.readout(run.state, differentiable=True)
        return torch.autograd.grad(output.square().mean(), given)[0]

    return gradient


def overhead(steps: int, repeats: int) -> Record:
    """A step of three nodes of eight units, against the same arithmetic written out by hand."""
    spec = pcg.parse_spec(
        {
            "name": "tiny",
            "nodes": {name: {"shape": [8]} for name in "abc"},
            "edges": [
                {"source": "a", "target": "b", "predictor": ["Linear"]},
                {"source": "b", "target": "c", "predictor": ["Linear"]},
            ],
            "dynamics": {"rule": "energy", "rate": 0.1},
        }
    )
    network = pcg.build(spec).requires_grad_(False)
    scheduler = pcg.Scheduler(network)
    first, second = network.predictors["a->b"], network.predictors["b->c"]
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    a, steps = torch.randn(1, 8), max(steps, 200)

    def by_hand() -> Tensor:
        b = first(a)
        c = second(b)
        for _ in range(steps):
            lower, upper = b - first(a), c - second(b)
            b, c = b - 0.1 * (lower - upper @ second.weight), c - 0.1 * upper
        return c

    def ours() -> Tensor:
        return scheduler.run(a, steps=steps).state.values["c"]

    return compared("overhead: 3 nodes of 8 units (by hand)", by_hand, ours, steps, repeats)


CASES: dict[str, Measure] = {"overhead": overhead}
for _batch in (1, 8):
    CASES[f"efficientnet_b0-{_batch}"] = default("efficientnet_b0", _batch)
    CASES[f"efficientnet_b0-{_batch}-compiled"] = dynamics("efficientnet_b0", _batch, compiled=True)
CASES["vgg16-1"] = default("vgg16", 1)
CASES["vgg16-4"] = default("vgg16", 4)
CASES["vgg16-1-compiled"] = in_tiles_compiled("vgg16", 1)
CASES["resnet50-1"] = dynamics("resnet50", 1)
CASES["resnet50-8"] = dynamics("resnet50", 8)
CASES["resnet50-8-compiled"] = dynamics("resnet50", 8, compiled=True)
CASES["efficientnet_b0-4-differentiable"] = differentiable("efficientnet_b0", 4, checkpoint=False)
CASES["efficientnet_b0-4-checkpointed"] = differentiable("efficientnet_b0", 4, checkpoint=True)

GROUP = Group(
    "Seconds a step, against the hook-style baseline",
    {
        "baseline": ("baseline s/step", ".3g"),
        "pcgraph": ("pcgraph s/step", ".3g"),
        **RATIOS,
        "compile": ("compile s", ".0f"),
        "paid_off": ("paid off after steps", ".0f"),
    },
    CASES,
)
