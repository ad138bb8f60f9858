"""Learning on the shipped digits: classify, generate, complete, recall, and the distance to backpropagation.

    python benchmarks/learning.py classify      # a layered network: backpropagation, il, ipc
    python benchmarks/learning.py ipc           # ipc alone
    python benchmarks/learning.py cnn           # the same for a small CNN
    python benchmarks/learning.py graph         # one graph: classify, generate, complete, recall
    python benchmarks/learning.py full          # the same for the fully connected graph without a memory
    python benchmarks/learning.py bidirectional # the same for a layered network with edges both ways
    python benchmarks/learning.py recall        # stored images from half-erased ones
    python benchmarks/learning.py strict        # il against backpropagation, with the figure

Each prints its settings and one line a result, medians over the seeds with the range.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import pcgraph as pcg
from pcgraph.datasets import Dataset, digits
from pcgraph.files.shipped import shipped_spec
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
  - {source: image, target: c1, predictor: [{Conv2d: {kernel_size: 5, stride: 2, padding: 0}}, ReLU]}
  - {source: c1, target: c2, predictor: [{Conv2d: {kernel_size: 3, stride: 2}}, ReLU]}
  - {source: c2, target: label, predictor: [Flatten, Linear], energy: categorical}
dynamics: {rule: energy, rate: 0.1}
"""


@dataclass(frozen=True)
class Setting:
    """How a rule is run: what is tuned."""

    lr: float
    batch: int = 50
    steps: int = 0
    rate: float = 0.1
    precision: float = 1.0  # of the label's prediction

    def of(self, spec: str) -> str:
        """The spec with this rate and precision."""
        precise = f"energy: categorical, precision: {self.precision}"
        return spec.replace("rate: 0.1", f"rate: {self.rate}").replace("energy: categorical", precise)

    def __str__(self) -> str:
        inference = (
            f", {self.steps} steps at {self.rate:g}, precision {self.precision:g}" if self.steps else ""
        )
        return f"lr {self.lr:g}, batch {self.batch}{inference}"


EPOCHS = 15


# Six settings for each rule, judged on 1,000 training images held out, with two seeds.
def settings(rule: str, rates: Sequence[float], convolutions: bool) -> list[Setting]:
    """What is tried: three learning rates, and two values of what else matters most."""
    if rule == "bp":
        return [Setting(lr, batch) for lr in rates for batch in (50, 100)]
    if rule == "il" and convolutions:  # their rate of inference gets too high as the weights grow
        return [Setting(lr, 50, 8, rate) for lr in rates for rate in (0.1, 0.01)]
    if rule == "il":
        return [Setting(lr, 50, 8, precision=precision) for lr in rates for precision in (1.0, 0.1)]
    inference = ((3, 0.3), (8, 0.5))  # ipc moves the weights once a step: slower ones
    return [Setting(lr / 3, 100, steps, rate) for lr in rates for steps, rate in inference]


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
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=decay)
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
        f"{name}: median {statistics.median(found):.4g} ({low:.4g} to {high:.4g}), n={len(found)} {note}",
        flush=True,
    )


def classify(
    data: Dataset,
    seeds: int,
    spec: str = LAYERED,
    rules: Iterable[str] = ("bp", "il", "ipc"),
    rates: Sequence[float] = (1e-3, 3e-3, 1e-2),
) -> None:
    """The same network for each rule, and as many settings tried."""
    kept, held = slice(3000), slice(3000, 4000)
    for rule in rules:
        judged: dict[Setting, float] = {}
        for setting in settings(rule, rates, spec is CNN):
            right = []
            for seed in (98, 99):
                network, _ = trained(
                    spec, rule, setting, data.train_images[kept], data.train_labels[kept], seed
                )
                right.append(accuracy(network, data.train_images[held], data.train_labels[held]))
            judged[setting] = statistics.mean(right)
            print(f"  {network.spec.name} {rule} {setting}: {judged[setting]:.1f}", flush=True)
        best = max(judged, key=lambda setting: judged[setting])
        results, seconds = [], []
        for seed in range(seeds):
            network, taken = trained(spec, rule, best, data.train_images, data.train_labels, seed)
            seconds.append(taken)
            results.append(accuracy(network, data.test_images, data.test_labels))
        note = f"[{best}; {EPOCHS} epochs, {min(seconds):.2f} s/epoch]"
        report(f"{network.spec.name} {rule}", results, note)


def trained(
    spec: str, rule: str, setting: Setting, images: Tensor, labels: Tensor, seed: int
) -> tuple[pcg.PCNetwork, float]:
    """A network of this seed after training, and the seconds an epoch took."""
    network = pcg.build(pcg.parse_spec(setting.of(spec)), seed=seed)
    seconds = train(
        network, clamps(images, labels), rule, setting.lr, EPOCHS, setting.batch, setting.steps, seed
    )
    return network, seconds


def ipc(data: Dataset, seeds: int) -> None:
    classify(data, seeds, rules=("ipc",))


def cnn(data: Dataset, seeds: int) -> None:
    classify(data, seeds, CNN, rules=("bp", "il"), rates=(3e-3, 1e-2, 3e-2))


def untrained(name: str, seed: int) -> pcg.PCNetwork:
    """A shipped network before it has learned anything."""
    return pcg.build(pcg.load_spec(shipped_spec(name)).model_copy(update={"weights": None}), seed=seed)


def nearest(images: Tensor, stored: Tensor) -> Tensor:
    return torch.cdist(images.flatten(1), stored.flatten(1)).argmin(1)


def upper_half() -> Tensor:
    held = torch.zeros(1, 28, 28, dtype=torch.bool)
    held[:, :14] = True
    return held


def taught(network: pcg.PCNetwork, data: Dataset, stored: Tensor, seed: int) -> None:
    """Let a graph learn the digits and then, where it has a memory, let that learn what is stored by heart.

    While the one learns the other rests: its weights are held, and its states are clamped.
    """
    digits = clamps(data.train_images, data.train_labels)
    if "memory" not in network.graph.nodes:
        train(network, digits, "il", 3e-3, 12, 100, 10, seed)
        return
    size = network.graph.nodes["memory"].shape
    memory = [network.predictors[name] for name in ("image->memory", "memory->image")]
    for predictor in memory:
        predictor.requires_grad_(False)
    digits["memory"] = torch.zeros(len(data.train_images), *size)
    train(network, digits, "il", 3e-3, 12, 100, 10, seed)
    network.requires_grad_(False)
    for predictor in memory:
        predictor.requires_grad_(True)
    resting = {
        area: torch.zeros(len(stored), *network.graph.nodes[area].shape) for area in ("a", "b", "label")
    }
    # the decay takes away what the first weights had, so that nothing but the stored images is remembered
    train(network, {"image": stored, **resting}, "il", 3e-3, 300, 100, 20, seed, decay=3.0)


def graph(data: Dataset, seeds: int, name: str = "pc_full_memory", steps: int = 500) -> None:
    """One graph, the same weights for all: classify, generate from a label, complete and recall images."""
    judge, _ = trained(LAYERED, "bp", Setting(1e-2, 50), data.train_images, data.train_labels, 1234)
    print(f"the judge, a layered network: {accuracy(judge, data.test_images, data.test_labels):.1f} %")
    held, lower, x = upper_half(), slice(14, None), data.test_images[:500]
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        network = untrained(name, seed)
        stored = data.train_images[100 * seed : 100 * seed + 100]
        taught(network, data, stored, seed)
        feedforward = accuracy(network, data.test_images, data.test_labels)
        settled = pcg.query(network, {"image": data.test_images}, free=["label"], steps=20)["label"]
        asked = torch.arange(10).repeat(10)
        noise = torch.rand(100, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
        clamp = {"label": one_hot(asked), "image": noise}
        made = pcg.query(network, clamp, free=["image"], steps=steps)["image"]
        judged = pcg.Scheduler(judge).start(made.clamp(0, 1)).values["label"].argmax(1)
        completed, recalled = (
            pcg.query(network, {"image": given * held}, mask={"image": held}, steps=steps)["image"]
            for given in (x, stored)
        )
        nearer = nearest(recalled[:, :, lower], stored[:, :, lower]) == torch.arange(len(stored))
        results = {
            "classified, feedforward, %": feedforward,
            "classified, after 20 steps, %": 100 * (settled.argmax(1) == data.test_labels).float().mean(),
            "generated and recognised as asked, %": 100 * (judged == asked).float().mean(),
            "completed, mean squared error": (completed - x)[:, :, lower].square().mean(),
            "of 100 stored images recalled (nearest to the one stored)": nearer.sum(),
            "recalled, mean squared error": (recalled - stored)[:, :, lower].square().mean(),
        }
        for what, value in results.items():
            found.setdefault(what, []).append(float(value))
        print(f"seed {seed}: {[round(values[-1], 4) for values in found.values()]}", flush=True)
    for what, values in found.items():
        report(f"{name} {what}", values)
    neighbour = data.train_images[nearest(x[:, :, :14], data.train_images[:, :, :14])]
    print(f"completed by the nearest neighbour: {(neighbour - x)[:, :, lower].square().mean():.4f}")
    print(f"completed by the mean image: {(data.train_images.mean(0) - x)[:, :, lower].square().mean():.4f}")


def full(data: Dataset, seeds: int) -> None:
    graph(data, seeds, "pc_full", 300)


def bidirectional(data: Dataset, seeds: int) -> None:
    graph(data, seeds, "pc_bidirectional", 300)


def recall(data: Dataset, seeds: int) -> None:
    """100 images stored in the shipped memory; each is then shown with its lower half erased."""
    held, lower = upper_half(), slice(14, None)
    found: dict[str, list[float]] = {"recalled (nearest to the one stored), %": [], "mean squared error": []}
    for seed in range(seeds):
        x = data.train_images[100 * seed : 100 * seed + 100]
        network = untrained("pc_memory", seed)
        train(network, {"image": x}, "il", 3e-3, 300, 100, 20, seed, decay=0.0)
        run = pcg.Scheduler(network).run(clamp={"image": x}, mask={"image": held}, steps=1000)
        made = run.state.values["image"][:, :, lower]
        right = nearest(made, x[:, :, lower]) == torch.arange(100)
        for name, value in zip(
            found, (100 * right.float().mean(), (made - x[:, :, lower]).square().mean()), strict=True
        ):
            found[name].append(float(value))
        print(f"seed {seed}: {[round(v[-1], 4) for v in found.values()]}", flush=True)
    for name, values in found.items():
        report(f"pc_memory {name}", values)
    print(f"mean squared error of the mean image: {(x.mean(0) - x)[:, :, lower].square().mean():.4f}")


def strict(data: Dataset, seeds: int) -> None:
    """Settled inference learning against backpropagation: relative distance of the gradients, float64."""
    sizes = [10.0**k for k in range(0, -5, -1)]
    curves: dict[str, list[float]] = {
        "the output's precision (error as it is)": [],
        "the output's error (precision 1)": [],
    }
    for name, values in curves.items():
        for size in sizes:
            distances = []
            for seed in range(seeds):
                precision = size if "precision (" in name else 1.0
                spec = LAYERED.replace("categorical", f"gaussian, precision: {precision:.6f}")
                network = pcg.build(pcg.parse_spec(spec), seed=seed).double()
                x, y = data.train_images[:20], one_hot(data.train_labels[:20]).double()
                plain = pcg.Scheduler(network).start(x).values["label"]
                y = y if "precision (" in name else plain + size * (y - plain)
                clamp = {"image": x, "label": y}
                one = weight_gradients(network, clamp, rule="il", steps=300)
                other = weight_gradients(network, clamp, rule="bp")
                gap = sum(float((one[key] - other[key]).square().sum()) for key in one) ** 0.5
                distances.append(gap / sum(float(g.square().sum()) for g in other.values()) ** 0.5)
            values.append(statistics.median(distances))
            print(f"{name} x {size:g}: relative distance {values[-1]:.2e}", flush=True)
    figure(sizes, curves)


def figure(sizes: list[float], curves: dict[str, list[float]]) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "pcgraph"
    from matplotlib import pyplot

    canvas, axes = pyplot.subplots(figsize=(6, 3.5), layout="constrained")
    for (name, values), marker in zip(curves.items(), "os", strict=True):
        axes.loglog(sizes, values, marker=marker, label=name)
    axes.set(xlabel="factor", ylabel="relative distance of the gradients")
    axes.legend()
    path = Path(__file__).parent.parent / "docs" / "assets" / "strict.svg"
    canvas.savefig(path, metadata={"Date": None})


TASKS: dict[str, Callable[[Dataset, int], None]] = {
    "classify": classify,
    "ipc": ipc,
    "cnn": cnn,
    "graph": graph,
    "full": full,
    "bidirectional": bidirectional,
    "recall": recall,
    "strict": strict,
}


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
