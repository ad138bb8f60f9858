"""Learning on the shipped digits: classify, generate, complete, recall, and the distance to backpropagation.

    python benchmarks/learning.py classify      # a layered network: backpropagation, il, ipc
    python benchmarks/learning.py graph         # a fully connected graph
    python benchmarks/learning.py generate      # from a label, judged by a classifier of its own
    python benchmarks/learning.py complete      # the lower half of an image
    python benchmarks/learning.py recall        # stored images from half-erased ones
    python benchmarks/learning.py strict        # il against backpropagation, with the figure

Each prints its settings and one line a result, medians over the seeds with the range.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.datasets import Dataset, digits
from pcgraph.learning import batches, learn, weight_gradients

LAYERED = """
name: layered
nodes: {image: {shape: [1, 28, 28]}, h1: {shape: [256]}, h2: {shape: [64]}, label: {shape: [10]}}
edges:
  - {source: image, target: h1, predictor: [Flatten, Linear, Tanh]}
  - {source: h1, target: h2, predictor: [Linear, Tanh]}
  - {source: h2, target: label, predictor: [Linear], energy: categorical}
dynamics: {rule: energy, rate: 0.1}
"""
CNN = """
name: cnn
nodes: {image: {shape: [1, 28, 28]}, c1: {shape: [16, 12, 12]}, c2: {shape: [32, 5, 5]}, label: {shape: [10]}}
edges:
  - {source: image, target: c1, predictor: [{Conv2d: {kernel_size: 5, stride: 2, padding: 0}}, Tanh]}
  - {source: c1, target: c2, predictor: [{Conv2d: {kernel_size: 3, stride: 2}}, Tanh]}
  - {source: c2, target: label, predictor: [Flatten, Linear], energy: categorical}
dynamics: {rule: energy, rate: 0.1}
"""


def train(
    network: pcg.PCNetwork,
    data: dict[str, Tensor],
    rule: str,
    lr: float,
    epochs: int,
    size: int,
    steps: int,
    seed: int,
    decay: float = 0.01,
) -> float:
    """Train with AdamW; returns seconds an epoch."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    began = time.perf_counter()
    for _ in range(epochs):
        for _ in learn(network, batches(data, size, generator), optimizer, rule=rule, steps=steps):  # type: ignore[arg-type]
            pass
        schedule.step()
    return (time.perf_counter() - began) / epochs


def one_hot(labels: Tensor) -> Tensor:
    return F.one_hot(labels, 10).float()


def clamps(images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    return {"image": images, "label": one_hot(labels)}


def accuracy(network: pcg.PCNetwork, images: Tensor, labels: Tensor) -> float:
    """Percent right after one feedforward pass."""
    found = pcg.Scheduler(network).start(images).values["label"].argmax(1)
    return 100 * float((found == labels).float().mean())


def report(name: str, results: Iterable[float], note: str = "") -> None:
    found = list(results)
    low, high = min(found), max(found)
    print(
        f"{name}: median {statistics.median(found):.2f} ({low:.2f} to {high:.2f}), n={len(found)} {note}",
        flush=True,
    )


def classify(data: Dataset, seeds: int, spec: str = LAYERED, epochs: int = 15) -> None:
    """The same network and the same tuning for each rule: three learning rates, on 500 training images held out."""
    held = slice(3500, 4000)
    for rule, size, steps in (("bp", 50, 0), ("il", 50, 10), ("ipc", 200, 5)):
        tuned = {}
        for lr in (3e-4, 1e-3, 3e-3):
            network = pcg.build(pcg.parse_spec(spec), seed=99)
            train(
                network,
                clamps(data.train_images[:3500], data.train_labels[:3500]),
                rule,
                lr,
                epochs,
                size,
                steps,
                99,
            )
            tuned[lr] = accuracy(network, data.train_images[held], data.train_labels[held])
        best = max(tuned, key=lambda lr: tuned[lr])
        results, seconds = [], []
        for seed in range(seeds):
            network = pcg.build(pcg.parse_spec(spec), seed=seed)
            taken = train(
                network, clamps(data.train_images, data.train_labels), rule, best, epochs, size, steps, seed
            )
            seconds.append(taken)
            results.append(accuracy(network, data.test_images, data.test_labels))
        note = f"[lr {best:g} of {tuned}, {epochs} epochs, batch {size}, {steps} steps, {min(seconds):.2f} s/epoch]"
        report(f"{network.spec.name} {rule}", results, note)


def cnn(data: Dataset, seeds: int) -> None:
    classify(data, seeds, CNN, epochs=10)


TASKS: dict[str, Callable[[Dataset, int], None]] = {"classify": classify, "cnn": cnn}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=[*TASKS])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.task}: {arguments.seeds} seeds, {arguments.threads} thread(s)", flush=True)
    TASKS[arguments.task](digits(), arguments.seeds)


if __name__ == "__main__":
    main()
