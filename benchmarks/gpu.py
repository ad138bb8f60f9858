"""What a GPU does with pcgraph, against the hook-style baseline: `python benchmarks/gpu.py [NAME ...]`.

    python benchmarks/gpu.py --json gpu.json --page docs/performance.md    # on a machine with CUDA
    python benchmarks/gpu.py --device cpu --small                          # tries the script itself

Four tables. `agreement`: ten steps in float32 (TF32 off and on) and bfloat16, against float64 on the same
device. `step`: seconds a step in turn with the baseline, as it is, channels-last, and compiled without and
with CUDA graphs; peak memory of both. `training`: a step of feedback learning, of tuning (the gradient
through ten steps) and of inference learning. `processes`: images a second of `evaluate` by torchrun on one
GPU and on all, where there are several. Weights are random. TF32 is off but where a row names it.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dynamics import through_steps
from hook_style import hook_gradient, images
from networks import pair
from PIL import Image
from rich.console import Console
from table import RATIOS, Group, Record, apart, compared, filled
from torch import Tensor
from training import Plain

import pcgraph as pcg
from pcgraph.datasets import Batch
from pcgraph.learning import learn
from pcgraph.learning.feedback import Feedback
from pcgraph.training.gradients import clear, differentiate

LOOSE = 2e-2
"""How far float32 results may be apart, relative to the largest number: the GPU adds in other orders."""


class Bench:
    """What every case needs to know.

    Attributes:
        device: Where it runs.
        steps: Steps of a run.
        repeats: Pairs of measurements.
    """

    def __init__(self, device: str, steps: int, repeats: int) -> None:
        self.device, self.steps, self.repeats = torch.device(device), steps, repeats

    def peak(self, function: Callable[[], Any]) -> float | None:
        """MiB allocated at most, above what was there before."""
        if self.device.type != "cuda":
            return None
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return (torch.cuda.max_memory_allocated() - before) / 2**20

    def compare(self, baseline: Callable[[], Tensor], ours: Callable[[], Tensor], steps: int = 1) -> Record:
        """The two in turn, seconds a step; and what each takes of memory."""
        more = {"tolerance": LOOSE, "warm": 1, "wait": self._wait}
        found = compared("GPU", baseline, ours, steps, self.repeats, **more)
        return {**found, "baseline_mib": self.peak(baseline), "pcgraph_mib": self.peak(ours)}

    def pair(self, name: str) -> tuple[pcg.PCNetwork, Any]:
        """A network and its baseline, there."""
        network, hooks = pair(name)
        for module in (network, hooks.model, *hooks.predictors):
            module.to(self.device)
        return network, hooks

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def tf32(on: bool) -> None:
    """Whether products and convolutions of float32 may round to 10 bits."""
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on


# ---- agreement ------------------------------------------------------------------------------------


def agreement(name: str, batch: int, kind: str, bench: Bench) -> Record:
    """Output and states after the steps, against the same network in float64."""
    network, _ = bench.pair(name)
    given = images(batch).to(bench.device)
    exact = pcg.Scheduler(network.double()).run(given.double(), bench.steps)
    if kind == "bfloat16":
        network.bfloat16()
        given = given.bfloat16()
    else:
        network.float()
    tf32(kind == "TF32")
    run = pcg.Scheduler(network).run(given, bench.steps)
    tf32(False)
    states = max(apart(run.state.values[node], exact.state.values[node]) for node in exact.state.values)
    return {
        "start": apart(run.output[0], exact.output[0]),
        "output": apart(run.output[-1], exact.output[-1]),
        "states": states,
    }


# ---- a step ---------------------------------------------------------------------------------------


def step(name: str, batch: int, way: str, bench: Bench) -> Record:
    """Seconds a step of a run with the output of every step."""
    network, hooks = bench.pair(name)
    given = ours = images(batch).to(bench.device)
    scheduler = pcg.Scheduler(network)
    if way == "channels-last":
        network.to(memory_format=torch.channels_last)
        ours = given.to(memory_format=torch.channels_last)
    if way == "compiled":
        scheduler.compile(options={"freezing": True, "triton.cudagraphs": False})
    if way == "CUDA graphs":
        scheduler.compile()
    return bench.compare(
        lambda: hooks.run(given, bench.steps),
        lambda: scheduler.run(ours, steps=bench.steps).output[-1],
        bench.steps,
    )


# ---- training -------------------------------------------------------------------------------------


def feedback(name: str, batch: int, bench: Bench) -> Record:
    """Gradients of the feedback's reconstruction losses; the baseline keeps the whole graph."""
    network, _ = bench.pair(name)
    task, plain = Feedback(network.requires_grad_(True)), Plain(network)
    parameters = task.parameters()
    given = images(batch).to(bench.device)
    one = Batch(given, torch.zeros(batch, dtype=torch.int64), torch.arange(batch))

    def gathered() -> Tensor:
        return torch.cat([p.grad.reshape(-1) for p in parameters if p.grad is not None])

    def theirs() -> Tensor:
        plain.gradients(given, parameters)
        return gathered()

    def ours() -> Tensor:
        (losses,) = task.moments(one)
        clear(parameters)
        differentiate(losses, parameters)
        return gathered()

    return bench.compare(theirs, ours)


def tuning(name: str, batch: int, checkpoint: bool, bench: Bench) -> Record:
    """The gradient of the last output for the images, through all steps; seconds a step."""
    network, hooks = bench.pair(name)
    given = images(batch).to(bench.device).requires_grad_()
    ours = through_steps(pcg.Scheduler(network), given, bench.steps, checkpoint)
    return bench.compare(lambda: hook_gradient(hooks, given, bench.steps), ours, bench.steps)


def inference_learning(batch: int, bench: Bench) -> Record:
    """Updates of a layered network of 784, 256, 64 and 10 units, against autograd on its energy."""
    sizes = [784, 256, 64, 10]
    names = [f"x{level}" for level in range(len(sizes))]
    spec = {
        "name": "layered",
        "nodes": {name: {"shape": [size]} for name, size in zip(names, sizes, strict=True)},
        "edges": [
            {"source": a, "target": b, "predictor": ["Linear", "Tanh"]} for a, b in itertools.pairwise(names)
        ],
        "dynamics": {"rule": "energy", "rate": 0.1},
        "schedule": {"order": "synchronous"},
    }
    network = pcg.build(pcg.parse_spec(spec)).to(bench.device)
    draw = torch.Generator().manual_seed(0)
    clamp = {"x0": torch.rand(batch, 784, generator=draw), "x3": torch.rand(batch, 10, generator=draw)}
    clamp = {node: value.to(bench.device) for node, value in clamp.items()}
    parameters = list(network.parameters())
    still = torch.optim.SGD(parameters, lr=0.0)
    layers = [network.predictors[f"{a}->{b}"] for a, b in itertools.pairwise(names)]

    def gathered() -> Tensor:
        return torch.cat([p.grad.reshape(-1) for p in parameters if p.grad is not None])

    def theirs() -> Tensor:
        values = [clamp["x0"]]
        with torch.no_grad():
            for layer in layers:
                values.append(layer(values[-1]))
        values[-1] = clamp["x3"]

        def energy() -> Tensor:
            return sum(
                ((upper - layer(lower)).square().sum() / 2)
                for layer, lower, upper in zip(layers, values, values[1:], strict=False)
            )

        for _ in range(bench.steps):
            moving = [value.detach().requires_grad_() for value in values[1:-1]]
            values[1:-1] = moving
            found = torch.autograd.grad(energy(), moving)
            values[1:-1] = [value.detach() - 0.1 * one for value, one in zip(moving, found, strict=True)]
        clear(parameters)
        (energy() / batch).backward()
        return gathered()

    def ours() -> Tensor:
        for _ in learn(network, [clamp], still, steps=bench.steps):
            pass
        return gathered()

    return bench.compare(theirs, ours)


# ---- processes ------------------------------------------------------------------------------------


def processes(count: int, number: int, bench: Bench) -> Record:
    """Seconds of an `evaluate` of pictures, start included, in one process and in several."""
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder) / "pictures", max(number, 1000))

        def seconds(nodes: int) -> float:
            command = [
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--standalone",
                f"--nproc-per-node={nodes}",
            ]
            command += ["-m", "pcgraph", "evaluate", "random.yaml", "--data", "folder:pictures"]
            command += ["--device", bench.device.type, "--steps", str(bench.steps), "--batch", "64", "-q"]
            command += [
                "--noise",
                "gaussian:0.5",
                "--out",
                f"runs/{nodes}",
                "--workers",
                "4",
                "--limit",
                str(number),
            ]
            begin = time.perf_counter()
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            return time.perf_counter() - begin

        one, several = seconds(1), seconds(count)
        tables = {(Path(folder) / "runs" / str(n) / "evaluation.csv").read_text() for n in (1, count)}
    return {"one": one, "several": several, "ratio": several / one, "same": len(tables) == 1}


def write_pictures(folder: Path, number: int) -> None:
    """Noise, in a thousand class folders; and a spec of random weights."""
    (folder.parent / "random.yaml").write_text("extends: efficientnet_b0\nbackbone: {weights: null}\n")
    draw = np.random.default_rng(0)
    for index in range(number):
        path = folder / str(index % 1000) / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(path)


# ---- the tables -----------------------------------------------------------------------------------

TIMES = {
    "baseline": ("baseline s", ".3g"),
    "pcgraph": ("pcgraph s", ".3g"),
    **RATIOS,
    "first": ("first s", ".1f"),
    "baseline_mib": ("baseline MiB", ".0f"),
    "pcgraph_mib": ("pcgraph MiB", ".0f"),
}
COLUMNS: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "agreement": (
        "Difference from float64, of the largest number",
        {
            "start": ("output of step 0", ".0e"),
            "output": ("output of the last step", ".0e"),
            "states": ("states after it", ".0e"),
        },
    ),
    "step": ("Seconds a step on the GPU, against the hook-style baseline", TIMES),
    "training": ("Learning on the GPU", TIMES),
    "processes": (
        "Evaluation, start included",
        {
            "one": ("one GPU, s", ".1f"),
            "several": ("all, s", ".1f"),
            "ratio": ("ratio", ".2f"),
            "same": ("same table", ""),
        },
    ),
}


def cases(small: bool) -> Iterator[tuple[str, str, Callable[[Bench], Record]]]:
    """Group, title and what measures it; what takes longest comes last."""
    networks = ["efficientnet_b0"] if small else ["efficientnet_b0", "resnet50", "vgg16"]
    batches = [1] if small else [1, 8, 64]
    for name in networks:
        for kind in ("float32", "TF32", "bfloat16"):
            title = f"{name}, {kind}"
            yield "agreement", title, functools.partial(agreement, name, 1 if small else 4, kind)

    def steps(way: str) -> Iterator[tuple[str, str, Callable[[Bench], Record]]]:
        for name in networks:
            for batch in batches:
                yield "step", f"{name}, batch {batch}, {way}", functools.partial(step, name, batch, way)

    for way in ("as it is", "channels-last"):
        yield from steps(way)
    size = 1 if small else 64
    yield (
        "training",
        f"feedback of efficientnet_b0, batch {size}",
        functools.partial(feedback, "efficientnet_b0", size),
    )
    for checkpoint in (False, True):
        title = f"tuning of efficientnet_b0, batch {size}{', checkpointed' if checkpoint else ''}"
        yield "training", title, functools.partial(tuning, "efficientnet_b0", size, checkpoint)
    for size in (128,) if small else (128, 1024):
        title = f"inference learning, 784-256-64-10, batch {size}"
        yield "training", title, functools.partial(inference_learning, size)
    if not small:
        yield from steps("CUDA graphs")
        yield from itertools.islice(steps("compiled"), 2)
    count = torch.cuda.device_count()
    if small or count > 1:
        title = f"efficientnet_b0, {2 if small else count} processes"
        measure = functools.partial(processes, 2 if small else count, 8 if small else 4000)
        yield "processes", title, measure


def main() -> None:
    """Run the cases that were named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="Groups, or beginnings of 'group/case'.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="One network, batch 1, two steps, one repeat.")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument(
        "--json", type=Path, help="Where the rows go as they come; other rows in it are kept."
    )
    parser.add_argument("--page", type=Path, help="Fill in the tables of docs/performance.md.")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; try --device cpu --small")
    tf32(False)
    bench = Bench(given.device, 2 if given.small else given.steps, 1 if given.small else given.repeats)
    found: dict[str, Record] = (
        json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    )
    order = []
    for group, title, measure in cases(given.small):
        key = f"{group}/{title}"
        order.append(key)
        if given.names and not key.startswith(tuple(given.names)):
            continue
        print(f"{key} ...", file=sys.stderr, flush=True)
        found[key] = {**measure(bench), "case": title}
        torch._dynamo.reset()
        if given.json:
            given.json.write_text(json.dumps(found, indent=2) + "\n")
    where = f"{machine(bench.device)}, torch {torch.__version__}."
    console = Console(width=None if sys.stdout.isatty() else 180)
    for name, (title, columns) in COLUMNS.items():
        records = [found[key] for key in order if key in found and key.startswith(f"{name}/")]
        if records:
            about = where if name == "agreement" else f"Medians of {bench.repeats}; {where}"
            group = Group(title, columns, {})
            console.print(group.table(records))
            if given.page:
                text, table = given.page.read_text(encoding="utf-8"), f"{group.markdown(records)}\n{about}"
                given.page.write_text(filled(text, f"gpu-{name}", table), encoding="utf-8")
    print(where)


def machine(device: torch.device) -> str:
    """What it is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the processor"


if __name__ == "__main__":
    main()
