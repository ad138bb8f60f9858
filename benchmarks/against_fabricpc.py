"""Inference learning against FabricPC (JAX): seconds an epoch, the two in turn.

    python -m venv fab && fab/bin/pip install fabricpc==0.6.0
    python benchmarks/against_fabricpc.py --fabricpc-python fab/bin/python

Both train 784-256-64-10 (tanh, squared errors) on the 4,000 shipped digits: batches of 200, 20 steps of
inference at rate 0.1, Adam, float32, the same first weights, the same batches in the same order, the same
cores. FabricPC's own loop (`fabricpc.training.train`) runs in its own process and waits while pcgraph has
its turn. That both do the same work is checked: their energies must agree in every epoch.
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


class Fabric:
    """FabricPC in its own process."""

    def __init__(self, python: str, arrays: Path, cores: list[int]) -> None:
        side = Path(__file__).with_name("fabricpc_side.py")
        command = [python, str(side), str(arrays), ",".join(map(str, cores))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = self._answer()

    def epoch(self) -> dict[str, Any]:
        """Let it train for one epoch."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit("FabricPC's process ended; what it said is above")
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fabricpc-python", required=True, help="Python of an environment with fabricpc")
    parser.add_argument("--repeats", type=int, default=15, help="epochs of each, after a first one")
    parser.add_argument(
        "--cores", help="cores that both may use, such as 0,1; left out: all that this process may use"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    arguments = parser.parse_args()
    every = sorted(os.sched_getaffinity(0))
    cores = [int(core) for core in arguments.cores.split(",")] if arguments.cores else every
    torch.set_num_threads(len(cores))
    os.sched_setaffinity(0, cores)

    data = digits()
    images, labels = data.train_images.flatten(1), F.one_hot(data.train_labels, 10).float()
    network = pcg.build(pcg.parse_spec(SPEC), seed=0)
    linears = [layer for layer in network.predictors.modules() if isinstance(layer, torch.nn.Linear)]
    settings = {"sizes": SIZES, "batch": BATCH, "steps": STEPS, "rate": RATE, "lr": LR}
    settings["epochs"] = arguments.repeats + 1
    arrays: dict[str, Any] = {"images": images.numpy(), "labels": labels.numpy()}
    for level, layer in enumerate(linears, 1):
        arrays[f"weight{level}"] = layer.weight.detach().numpy()
        arrays[f"bias{level}"] = layer.bias.detach().numpy()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "given.npz"
        np.savez(path, settings=json.dumps(settings), **arrays)
        fabric = Fabric(arguments.fabricpc_python, path, cores)
        ours = Ours(network, images, labels)
        rows = [(fabric.epoch(), ours.epoch()) for _ in range(arguments.repeats + 1)]
    fabric.process.terminate()

    print(f"torch {torch.__version__}, jax {fabric.about['jax']}, {len(cores)} core(s)")
    print("epoch  FabricPC s  energy   pcgraph s  energy   ratio")
    for number, (theirs, mine) in enumerate(rows):
        ratio = mine["seconds"] / theirs["seconds"]
        print(
            f"{number:5}  {theirs['seconds']:10.3f}  {theirs['energy']:7.4f}  {mine['seconds']:9.3f}"
            f"  {mine['energy']:7.4f}  {ratio:6.2f}{'   (FabricPC compiles)' if number == 0 else ''}"
        )
    apart = max(abs(a["energy"] - b["energy"]) / a["energy"] for a, b in rows)
    if apart > TOLERANCE:
        sys.exit(f"the energies differ by {apart:.1%}: the two do not do the same; nothing is compared")
    timed = rows[1:]
    ratios = [mine["seconds"] / theirs["seconds"] for theirs, mine in timed]
    found = {
        "fabricpc": statistics.median(theirs["seconds"] for theirs, _ in timed),
        "pcgraph": statistics.median(mine["seconds"] for _, mine in timed),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "ratio_of_processor_time": statistics.median(mine["cpu"] / theirs["cpu"] for theirs, mine in timed),
        "energies_apart": apart,
        "fabricpc_first_epoch": rows[0][0]["seconds"],
        "pcgraph_first_epoch": rows[0][1]["seconds"],
    }
    print(
        f"medians: FabricPC {found['fabricpc']:.3f} s, pcgraph {found['pcgraph']:.3f} s an epoch; "
        f"ratio {found['ratio']:.2f} ({found['lowest']:.2f} to {found['highest']:.2f}); "
        f"of processor time {found['ratio_of_processor_time']:.2f}; energies within {apart:.1e}"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
