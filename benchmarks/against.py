"""Inference learning against a JAX package, the two in turn: shared by against_fabricpc.py, against_pcx.py.

Both train the same network (learners.py) on the shipped digits: squared errors, Adam, float32, the same first
weights, the same batches in the same order, the same cores. The package runs in its own process and waits
while pcgraph has its turn; with ``--beside`` other processes keep the cores busy all the time. That both do
the same work is checked: after the first epoch their weights must agree, and in every epoch their energies.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from learners import LEARNERS
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.learning import learn

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

    def __init__(
        self, network: pcg.PCNetwork, given: tuple[Tensor, Tensor], settings: dict[str, Any]
    ) -> None:
        self.network = network
        last = f"n{len(settings['layers'])}"
        pairs = zip(*(one.split(settings["batch"]) for one in given), strict=True)
        self.batches = [{"n0": x, last: y} for x, y in pairs]
        optimizer = torch.optim.Adam(network.parameters(), lr=settings["lr"], fused=True)
        self.updates = learn(
            network,
            itertools.cycle(self.batches),
            optimizer,
            rule="il",
            steps=settings["steps"],
            compiled=settings["compiled"],
        )

    def epoch(self) -> dict[str, float]:
        """Train for one epoch."""
        began, cpu = time.perf_counter(), time.process_time()
        updates = itertools.islice(self.updates, len(self.batches))
        energy = statistics.mean([update.total for update in updates])
        cpu = time.process_time() - cpu
        return {"seconds": time.perf_counter() - began, "cpu": cpu, "energy": energy}

    def weights(self) -> Arrays:
        """A copy of the weights."""
        layers = [one for one in self.network.predictors.modules() if isinstance(one, nn.Linear | nn.Conv2d)]
        arrays = {f"weight{level}": one.weight.detach().numpy().copy() for level, one in enumerate(layers, 1)}
        return arrays | {
            f"bias{level}": one.bias.detach().numpy().copy() for level, one in enumerate(layers, 1)
        }


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Other processes that take whatever they get of the same cores."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def apart(theirs: Arrays, ours: Arrays, start: Arrays) -> float:
    """How far the weights are apart, at worst, as a part of how far learning has moved them."""
    norm = np.linalg.norm
    return max(float(norm(theirs[name] - ours[name]) / norm(ours[name] - start[name])) for name in start)


def compare(name: str, side: str, about: str | None, tolerance: float) -> None:
    """Read the command line, let the two take turns, check that they agree, and tell the times.

    Args:
        name: The other package.
        side: The script that runs in its environment.
        about: What the command is for.
        tolerance: How far the mean energies of an epoch may be apart, relative to them.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    key = name.lower()
    parser.add_argument(
        f"--{key}-python", dest="python", required=True, help=f"Python of an environment with {key}"
    )
    parser.add_argument("--network", choices=LEARNERS, default="layered")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--images", type=int, help="of an epoch, instead of the network's own number")
    parser.add_argument("--steps", type=int, default=7, help="of inference")
    parser.add_argument("--compile", action="store_true", help="let pcgraph compile its steps, too")
    parser.add_argument("--beside", type=int, default=0, help="other processes that keep the cores busy")
    parser.add_argument("--repeats", type=int, default=15, help="epochs of each, after a first one")
    parser.add_argument(
        "--cores", help="cores that both may use, such as 0,1; left out: all that this process may use"
    )
    parser.add_argument(
        "--dtype", choices=["float32", "float64"], default="float32", help="float64: to check"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    arguments = parser.parse_args()
    every = sorted(os.sched_getaffinity(0))
    cores = [int(core) for core in arguments.cores.split(",")] if arguments.cores else every
    torch.set_num_threads(len(cores))
    os.sched_setaffinity(0, cores)

    learner, dtype = LEARNERS[arguments.network], getattr(torch, arguments.dtype)
    images, labels = learner.data(arguments.batch, arguments.images, dtype)
    settings = {
        "shape": learner.shape,
        "layers": learner.layers,
        "batch": arguments.batch,
        "steps": arguments.steps,
        "rate": learner.rate,
        "lr": learner.lr,
        "epochs": arguments.repeats + 1,
        "compiled": arguments.compile,
    }
    network = pcg.build(pcg.parse_spec(learner.spec(arguments.steps)), seed=0).to(dtype)
    ours = Ours(network, (images, labels), settings)
    start = ours.weights()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "given.npz"
        np.savez(path, settings=json.dumps(settings), images=images.numpy(), labels=labels.numpy(), **start)
        theirs = Theirs(arguments.python, side, path, cores)
        rows = [(theirs.epoch(), ours.epoch())]
        weights_apart = apart(theirs.weights(), ours.weights(), start)
        with busy(arguments.beside):
            rows += [(theirs.epoch(), ours.epoch()) for _ in range(arguments.repeats)]
        theirs.process.terminate()

    print(f"{name}, {arguments.network}, batch {arguments.batch}, {arguments.steps} steps, ", end="")
    print(f"{len(cores)} core(s), {arguments.beside} busy process(es) beside, {arguments.dtype}")
    print(f"torch {torch.__version__}, jax {theirs.about['jax']}; pcgraph compiled: {arguments.compile}")
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
    if weights_apart > learner.apart[arguments.dtype] or energies_apart > tolerance:
        sys.exit("that is too much: the two do not do the same; nothing is compared")
    timed = rows[1:]
    ratios = [own["seconds"] / other["seconds"] for other, own in timed]
    least = [min(one["cpu"] for one in side) * 1e3 / len(ours.batches) for side in zip(*timed, strict=True)]
    found = {
        key: statistics.median(other["seconds"] for other, _ in timed),
        "pcgraph": statistics.median(own["seconds"] for _, own in timed),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "ratio_of_processor_time": statistics.median(own["cpu"] / other["cpu"] for other, own in timed),
        "weights_apart": weights_apart,
        "energies_apart": energies_apart,
        "least_processor_ms": least,
        f"{key}_first_epoch": rows[0][0]["seconds"],
        "pcgraph_first_epoch": rows[0][1]["seconds"],
    }
    print(
        f"medians: {name} {found[key]:.3f} s, pcgraph {found['pcgraph']:.3f} s an epoch; "
        f"ratio {found['ratio']:.2f} ({found['lowest']:.2f} to {found['highest']:.2f}); "
        f"of processor time {found['ratio_of_processor_time']:.2f}"
    )
    print(f"least processor time a batch: {name} {least[0]:.2f} ms, pcgraph {least[1]:.2f} ms")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
