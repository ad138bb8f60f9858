"""Inference learning against a JAX package, the two in turn: shared by against_fabricpc.py, against_pcx.py.

Both train 784-256-64-10 (tanh, squared errors) on the 4,000 shipped digits: batches of 200, 20 steps of
inference at rate 0.1, Adam, float32, the same first weights, the same batches in the same order, the same
cores. The package runs in its own process and waits while pcgraph has its turn. That both do the same work is
checked: after the first epoch (20 updates) their weights must agree, and in every epoch their energies.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import pcgraph as pcg
from pcgraph.datasets import digits
from pcgraph.learning import learn

SIZES = (784, 256, 64, 10)
SPEC = """
name: layered
nodes: {n0: {shape: [784]}, n1: {shape: [256]}, n2: {shape: [64]}, n3: {shape: [10]}}
edges:
  - {source: n0, target: n1, predictor: [Linear, Tanh]}
  - {source: n1, target: n2, predictor: [Linear, Tanh]}
  - {source: n2, target: n3, predictor: [Linear]}
dynamics: {rule: energy, rate: 0.1}
schedule: {order: synchronous, steps: 20}
"""
BATCH, STEPS, RATE, LR = 200, 20, 0.1, 1e-3
TOLERANCE = 0.01  # relative, of an epoch's mean energy; rounding makes the two drift apart
WEIGHTS = {"float32": 1e-4, "float64": 1e-10}  # the same, of the change that an epoch makes to the weights
Arrays = dict[str, np.ndarray]


class Theirs:
    """The other package in its own process; `side` names the script there."""

    def __init__(self, python: str, side: str, arrays: Path, cores: list[int]) -> None:
        command = [python, str(Path(__file__).with_name(side)), str(arrays), ",".join(map(str, cores))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.after = arrays.with_name("after.npz")
        self.about = self._answer()

    def epoch(self) -> dict[str, Any]:
        """Let it train for one epoch."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def weights(self) -> Arrays:
        """Its weights after its last epoch."""
        return dict(np.load(self.after))

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the other process ended; what it said is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Ours:
    """pcgraph in this process."""

    def __init__(self, network: pcg.PCNetwork, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.network = network
        pairs = zip(images.split(BATCH), labels.split(BATCH), strict=True)
        self.batches = [{"n0": x, "n3": y} for x, y in pairs]
        self.optimizer = torch.optim.Adam(network.parameters(), lr=LR, fused=True)

    def epoch(self) -> dict[str, float]:
        """Train for one epoch."""
        began, cpu = time.perf_counter(), time.process_time()
        updates = learn(self.network, self.batches, self.optimizer, rule="il", steps=STEPS)
        energy = statistics.mean([update.total for update in updates])
        cpu = time.process_time() - cpu
        return {"seconds": time.perf_counter() - began, "cpu": cpu, "energy": energy}

    def weights(self) -> Arrays:
        """A copy of the weights."""
        linears = [one for one in self.network.predictors.modules() if isinstance(one, torch.nn.Linear)]
        arrays = {
            f"weight{level}": one.weight.detach().numpy().copy() for level, one in enumerate(linears, 1)
        }
        return arrays | {
            f"bias{level}": one.bias.detach().numpy().copy() for level, one in enumerate(linears, 1)
        }


def apart(theirs: Arrays, ours: Arrays, start: Arrays) -> float:
    """How far the weights are apart, at worst, as a part of how far learning has moved them."""
    norm = np.linalg.norm
    return max(float(norm(theirs[name] - ours[name]) / norm(ours[name] - start[name])) for name in start)


def compare(name: str, side: str, about: str | None) -> None:
    """Read the command line, let the two take turns, check that they agree, and tell the times.

    Args:
        name: The other package.
        side: The script that runs in its environment.
        about: What the command is for.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    key = name.lower()
    parser.add_argument(
        f"--{key}-python", dest="python", required=True, help=f"Python of an environment with {key}"
    )
    parser.add_argument("--repeats", type=int, default=15, help="epochs of each, after a first one")
    parser.add_argument(
        "--cores", help="cores that both may use, such as 0,1; left out: all that this process may use"
    )
    parser.add_argument("--dtype", choices=WEIGHTS, default="float32", help="float64: to check, not to time")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    arguments = parser.parse_args()
    every = sorted(os.sched_getaffinity(0))
    cores = [int(core) for core in arguments.cores.split(",")] if arguments.cores else every
    torch.set_num_threads(len(cores))
    os.sched_setaffinity(0, cores)

    data, dtype = digits(), getattr(torch, arguments.dtype)
    images, labels = data.train_images.flatten(1).to(dtype), F.one_hot(data.train_labels, 10).to(dtype)
    ours = Ours(pcg.build(pcg.parse_spec(SPEC), seed=0).to(dtype), images, labels)
    start = ours.weights()
    settings = {"sizes": SIZES, "batch": BATCH, "steps": STEPS, "rate": RATE, "lr": LR}
    settings["epochs"] = arguments.repeats + 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "given.npz"
        np.savez(path, settings=json.dumps(settings), images=images.numpy(), labels=labels.numpy(), **start)
        theirs = Theirs(arguments.python, side, path, cores)
        rows = [(theirs.epoch(), ours.epoch())]
        weights_apart = apart(theirs.weights(), ours.weights(), start)
        rows += [(theirs.epoch(), ours.epoch()) for _ in range(arguments.repeats)]
        theirs.process.terminate()

    print(f"torch {torch.__version__}, jax {theirs.about['jax']}, {arguments.dtype}, {len(cores)} core(s)")
    print(f"epoch  {name + ' s':>10}  energy   pcgraph s  energy   ratio")
    for number, (other, own) in enumerate(rows):
        print(
            f"{number:5}  {other['seconds']:10.3f}  {other['energy']:7.4f}  {own['seconds']:9.3f}"
            f"  {own['energy']:7.4f}  {own['seconds'] / other['seconds']:6.2f}"
            f"{f'   ({name} compiles)' if number == 0 else ''}"
        )
    energies_apart = max(abs(other["energy"] - own["energy"]) / other["energy"] for other, own in rows)
    print(
        f"after the first epoch the weights differ by {weights_apart:.1e} of what it changed; "
        f"energies within {energies_apart:.1e}"
    )
    if weights_apart > WEIGHTS[arguments.dtype] or energies_apart > TOLERANCE:
        sys.exit("that is too much: the two do not do the same; nothing is compared")
    timed = rows[1:]
    ratios = [own["seconds"] / other["seconds"] for other, own in timed]
    found = {
        key: statistics.median(other["seconds"] for other, _ in timed),
        "pcgraph": statistics.median(own["seconds"] for _, own in timed),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "ratio_of_processor_time": statistics.median(own["cpu"] / other["cpu"] for other, own in timed),
        "weights_apart": weights_apart,
        "energies_apart": energies_apart,
        f"{key}_first_epoch": rows[0][0]["seconds"],
        "pcgraph_first_epoch": rows[0][1]["seconds"],
    }
    print(
        f"medians: {name} {found[key]:.3f} s, pcgraph {found['pcgraph']:.3f} s an epoch; "
        f"ratio {found['ratio']:.2f} ({found['lowest']:.2f} to {found['highest']:.2f}); "
        f"of processor time {found['ratio_of_processor_time']:.2f}"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
