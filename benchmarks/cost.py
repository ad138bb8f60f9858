"""What the published studies cost on GPUs, by calculation: `python benchmarks/cost.py [SPEC ...] [options]`.

Multiply-adds are counted exactly, on tensors without storage; no weights are needed, nothing is measured.
Hours follow from the assumptions below, which are printed with the tables: how many images, how fast a
GPU is at its best, what part of that a network reaches, and how well several GPUs share the work. Options
change each of them. The page docs/reproduce.md shows the tables.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

import pcgraph as pcg
from pcgraph.cli.options import read_spec
from pcgraph.report.description import OperationCounter

TRAIN, TEST = 1_281_167, 50_000  # images of the ImageNet challenge
PEAK = {"A100": 156e12, "H100": 494e12}
"""Operations a second on tensor cores in TF32, dense, from NVIDIA's data sheets (SXM). PyTorch uses TF32
for convolutions in float32 unless it is told not to; bfloat16 has twice the peak."""
REACHED = {"vgg16": 0.3, "efficientnet_b0_timm": 0.03}
"""Assumed part of the peak: large dense convolutions reach much of it, depthwise ones hardly any."""
SHARED = {1: 1.0, 8: 0.95, 64: 0.85}
"""Assumed part of the speed of so many single GPUs."""
READ = 150
"""Photographs that one worker reads and resizes a second (pcgraph.datasets: 110 to 240 here)."""


@dataclass(frozen=True)
class Counts:
    """Multiply-adds for one image.

    Attributes:
        plain: The plain network with its output.
        step: One step of the dynamics, with the output.
        feedback: One training step of the feedback.
        through: The gradient through `through_steps` steps, forward and backward.
    """

    plain: int
    step: int
    feedback: int
    through: dict[int, int]


def counts(spec: str, unrolled: tuple[int, ...]) -> Counts:
    """Count one network's operations."""
    network = pcg.build(read_spec(spec), weights=False).to("meta")
    scheduler = pcg.Scheduler(network)
    image = torch.empty(1, *network.graph.nodes[network.graph.receiver].shape, device="meta")

    with OperationCounter() as start:
        state = scheduler.start(image)
    with OperationCounter() as output:
        scheduler.readout(state)
    with OperationCounter() as step:
        scheduler.step(state)
    with OperationCounter() as feedback:
        losses = []
        for name, predictor in network.predictors.items():
            edge = network.graph.edges[name]
            sources = [torch.empty(1, *network.graph.nodes[one].shape, device="meta") for one in edge.sources]
            losses.append(predictor(*sources).sum())
        torch.autograd.grad(torch.stack(losses).sum(), list(network.predictors.parameters()))

    through = {}
    for steps in unrolled:
        with OperationCounter() as counter, torch.enable_grad():
            watched = image.clone().requires_grad_()
            state = scheduler.start(watched, differentiable=True)
            outputs = [scheduler.readout(state, differentiable=True)]
            for _ in range(steps):
                state = scheduler.step(state, differentiable=True)
                outputs.append(scheduler.readout(state, differentiable=True))
            torch.autograd.grad(torch.stack(outputs).sum(), watched)
        through[steps] = counter.operations // 2
    return Counts(
        plain=(start.operations + output.operations) // 2,
        step=(step.operations + output.operations) // 2,
        feedback=(start.operations + feedback.operations) // 2,
        through=through,
    )


@dataclass(frozen=True)
class Job:
    """One part of the studies: how many images, how often, and what each costs."""

    name: str
    images: int
    operations: int
    read: int


def jobs(count: Counts, epochs: int) -> list[Job]:
    """What docs/reproduce.md does, with the published settings."""
    ten = count.plain + 10 * count.step
    fifteen = count.plain + 15 * count.step
    return [
        Job(f"train the feedback, {epochs} epochs", TRAIN * epochs, count.feedback, TRAIN * epochs),
        Job("Gaussian noise: clean and 5 levels, 10 steps", TEST * 6, ten, TEST),
        Job("ImageNet-C: 19 corruptions x 5, 10 steps", TEST * 95, ten, TEST * 95),
        Job("distances: 1,000 images, clean and 5 levels, 15 steps", 6_000, fifteen, 1_000),
        Job("attack on step 10: 1,000 images, 8 sizes, 100 iterations", 800_000, count.through[10], 1_000),
        Job("tune 10 times: 8 epochs of 50,000, 5 steps", TEST * 8 * 10, count.through[5], TEST * 8 * 10),
    ]


def hours(job: Job, gpu: str, number: int, reached: float) -> float:
    """Hours of wall-clock time on so many GPUs."""
    operations = 2 * job.operations * job.images
    return operations / (PEAK[gpu] * reached * SHARED[number] * number) / 3600


def shown(hours: float) -> str:
    """Hours, in the unit that suits them."""
    if hours < 1:
        return f"{max(1, round(hours * 60))} min"
    return f"{hours:.1f} h" if hours < 100 else f"{hours / 24:.1f} d"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("specs", nargs="*", default=list(REACHED), metavar="SPEC")
    parser.add_argument("--epochs", type=int, default=50, help="epochs of the feedback's training")
    parser.add_argument("--reached", type=float, help="part of the peak, for all networks")
    parser.add_argument("--markdown", action="store_true", help="print the tables for the docs")
    given = parser.parse_args()
    for spec in given.specs:
        count = counts(spec, (5, 10))
        reached = given.reached or REACHED.get(spec, 0.1)
        rows = [
            ["plain network", count.plain],
            ["one step, with its output", count.step],
            ["training the feedback", count.feedback],
            *([f"gradient through {steps} steps", number] for steps, number in count.through.items()),
        ]
        show(
            f"{spec}: billions of multiply-adds an image",
            ["", "10^9"],
            [[name, f"{number / 1e9:.2f}"] for name, number in rows],
            given.markdown,
        )
        setups = [(gpu, number) for gpu in PEAK for number in SHARED]
        show(
            f"{spec}: time, at {reached:.0%} of the peak",
            ["job", "10^15 operations", *(f"{number} {gpu}" for gpu, number in setups), "reading"],
            [
                [
                    job.name,
                    f"{2 * job.operations * job.images / 1e15:,.0f}",
                    *(shown(hours(job, gpu, number, reached)) for gpu, number in setups),
                    f"{math.ceil(job.read / READ / 3600)} worker-h",
                ]
                for job in jobs(count, given.epochs)
            ],
            given.markdown,
        )
    peaks = ", ".join(f"{gpu} {peak / 1e12:.0f}" for gpu, peak in PEAK.items())
    shares = ", ".join(f"{number}: {share:.0%}" for number, share in SHARED.items())
    print(
        f"Assumed: peak in 10^12 operations a second (TF32): {peaks}; an operation is a multiplication or an "
        f"addition;\nspeed of several GPUs, of that of as many single ones: {shares}; "
        f"a worker reads {READ} photographs a second."
    )


def show(title: str, columns: list[str], rows: list[list[str]], markdown: bool) -> None:
    """One table, for a screen or for the docs."""
    if markdown:
        lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
        print(f"**{title}**\n")
        print("\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")
        return
    table = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
