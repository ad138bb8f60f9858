"""What the published studies cost on GPUs, by calculation: `python benchmarks/cost.py [SPEC ...] [options]`.

Multiply-adds are counted exactly, on tensors without storage; no weights are needed, nothing is measured.
Hours follow from the assumptions below, which are printed with the tables: how many images, how fast a
GPU is at its best, what part of that a network reaches, and how well several GPUs share the work. Options
change each of them. The last table begins with steps that were measured on one GPU instead, and sets the
processor cores that read images beside it. The page docs/reproduce.md shows the tables.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

import pcgraph as pcg
from pcgraph.analysis.cost import OperationCounter
from pcgraph.cli.options import read_spec

TRAIN, TEST = 1_281_167, 50_000  # images of the ImageNet challenge
PEAK = {"A100": 156e12, "H100": 494e12}
"""Operations a second on tensor cores in TF32, dense, from NVIDIA's data sheets (SXM). PyTorch uses TF32
for convolutions in float32 unless it is told not to; bfloat16 has twice the peak."""
REACHED = {"vgg16": 0.3, "efficientnet_b0_timm": 0.03}
"""Assumed part of the peak: large dense convolutions reach much of it, depthwise ones hardly any."""
SHARED = {1: 1.0, 8: 0.95, 64: 0.85}
"""Assumed part of the speed of so many single GPUs."""
ATTACKED, TUNED = (0, 2, 4, 6, 8), 5
"""Steps that are attacked, and steps that the dynamics are tuned over, in the published scripts."""
READ, READ_CORRUPTED = 220, 800
"""Images that one core reads a second: photographs, which are resized, and those of ImageNet-C, which are not
(benchmarks/reading.py)."""
CORES = 16
"""Processor cores beside each GPU."""
MEASURED = {
    "vgg16: ImageNet-C, 10 steps": (TEST * 95, 11 * 0.608 / 64, READ_CORRUPTED),
    "efficientnet_b0: ImageNet-C, 10 steps": (TEST * 95, 11 * 0.0197 / 64, READ_CORRUPTED),
    "efficientnet_b0: train the feedback, 50 epochs": (TRAIN * 50, 0.0182 / 64, READ),
}
"""Images; seconds an image of one H200 at batch 64 (docs/performance.md; the first pass counts as a step);
images that a core reads a second."""


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
    fourteen = count.plain + 14 * count.step
    attacks = sum(count.through[step] for step in ATTACKED)
    return [
        Job(f"train the feedback, {epochs} epochs", TRAIN * epochs, count.feedback, TRAIN * epochs),
        Job("Gaussian noise: clean and 5 levels, 10 steps", TEST * 6, ten, TEST),
        Job("ImageNet-C: 19 corruptions x 5, 10 steps", TEST * 95, ten, TEST * 95),
        Job("distances: 1,000 images, clean and 5 levels, 14 steps", 6_000, fourteen, 1_000),
        Job("attacks on 5 steps: 1,000 images, 8 sizes, 100 iterations", 800_000, attacks, 1_000),
        Job("tune 10 times: 8 epochs of 50,000, 5 steps", TEST * 8 * 10, count.through[TUNED], TEST * 8 * 10),
    ]


def hours(job: Job, gpu: str, number: int, reached: float) -> float:
    """Hours of wall-clock time on so many GPUs."""
    operations = 2 * job.operations * job.images
    return operations / (PEAK[gpu] * reached * SHARED[number] * number) / 3600


def shown(hours: float) -> str:
    """Hours, in the unit that suits them."""
    if hours < 1:
        return f"{max(1, round(hours * 60))} min"
    return f"{hours:.1f} h" if hours < 10 else f"{hours:,.0f} h"


@dataclass(frozen=True)
class Sheet:
    """A table, for a screen or for the docs."""

    title: str
    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """The table in Markdown."""
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        return f"**{self.title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def table(self) -> Table:
        """The table for a screen."""
        table = Table(title=self.title, title_justify="left")
        for place, column in enumerate(self.columns):
            table.add_column(column, justify="right" if place else "left")
        for row in self.rows:
            table.add_row(*row)
        return table


def sheets(spec: str, epochs: int = 50, reached: float | None = None) -> tuple[Sheet, Sheet]:
    """What an image costs, and what the studies cost, for one network."""
    count = counts(spec, (*ATTACKED, TUNED))
    reached = reached or REACHED.get(spec, 0.1)
    kinds = {
        "plain network": count.plain,
        "one step, with its output": count.step,
        "training the feedback": count.feedback,
        **{f"gradient through {steps} steps": number for steps, number in sorted(count.through.items())},
    }
    setups = [(gpu, number) for gpu in PEAK for number in SHARED]
    return (
        Sheet(
            f"{spec}: billions of multiply-adds an image",
            ["", "10^9"],
            [[name, f"{number / 1e9:.2f}"] for name, number in kinds.items()],
        ),
        Sheet(
            f"{spec}: hours of computing at {reached:.0%} of the peak, and of reading images by one worker",
            ["job", "10^15 operations", *(f"{number} {gpu}" for gpu, number in setups), "reading"],
            [
                [
                    job.name,
                    f"{2 * job.operations * job.images / 1e15:,.1f}",
                    *(shown(hours(job, gpu, number, reached)) for gpu, number in setups),
                    shown(job.read / READ / 3600),
                ]
                for job in jobs(count, epochs)
            ],
        ),
    )


def scale() -> Sheet:
    """Hours of the dynamics as measured on one GPU, and of the cores that read what they see."""
    rows = []
    for name, (images, seconds, read) in MEASURED.items():
        needed = 1 / (seconds * read)
        times = [shown(images * seconds / (SHARED[number] * number) / 3600) for number in SHARED]
        reading = [shown(images / (read * CORES * number) / 3600) for number in SHARED]
        pairs = [f"{one} / {other}" for one, other in zip(times, reading, strict=True)]
        limit = "reading" if needed > CORES else "the dynamics"
        rows.append([name, f"{1 / seconds:,.0f}", *pairs, f"{needed:.2g}", limit])
    columns = [
        "job",
        "images/s of a GPU",
        *(f"{number} GPU" for number in SHARED),
        "cores a GPU needs",
        "limit",
    ]
    return Sheet(f"Hours of the dynamics / of reading by {CORES} cores a GPU", columns, rows)


def assumptions() -> str:
    """What the hours rest on, in a sentence."""
    peaks = ", ".join(f"{gpu} {peak / 1e12:.0f}" for gpu, peak in PEAK.items())
    shares = ", ".join(f"{number}: {share:.0%}" for number, share in SHARED.items())
    return (
        f"Assumed: peak in 10^12 operations a second (TF32): {peaks}; an operation is a multiplication or an "
        f"addition; speed of several GPUs, of that of as many single ones: {shares}; a core reads {READ} "
        f"photographs or {READ_CORRUPTED} images of ImageNet-C a second."
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("specs", nargs="*", default=list(REACHED), metavar="SPEC")
    parser.add_argument("--epochs", type=int, default=50, help="epochs of the feedback's training")
    parser.add_argument("--reached", type=float, help="part of the peak, for all networks")
    given = parser.parse_args()
    console = Console()
    for spec in given.specs:
        for sheet in sheets(spec, given.epochs, given.reached):
            console.print(sheet.table())
    console.print(scale().table())
    console.print(assumptions())


if __name__ == "__main__":
    main()
