"""Peak memory of one gradient of the dynamics through the steps of a run, with checkpointing and without.

    python benchmarks/memory.py --steps 10 --batch 16

Each way runs in a process of its own; what is reported is the most memory that the process had resident,
and what the libraries and the network alone take.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

WAYS = ("checkpointed", "whole graph")
GIB = 2**20  # ru_maxrss counts KiB


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB


def one(way: str, spec: str, steps: int, batch: int) -> None:
    import torch

    from pcgraph.cli.options import read_spec
    from pcgraph.datasets import Batch
    from pcgraph.learning.dynamics import DynamicsTask
    from pcgraph.network import build
    from pcgraph.spec import Tune

    torch.set_num_threads(1)
    given = read_spec(spec)
    assert given.backbone is not None
    backbone = given.backbone.model_copy(update={"weights": None})  # memory does not depend on the weights
    network = build(given.model_copy(update={"backbone": backbone, "weights": None}))
    task = DynamicsTask(network, Tune(steps=(steps, steps), save_memory=way == "checkpointed"))
    before = peak()
    begun = time.perf_counter()
    images = torch.randn(batch, *backbone.input, generator=torch.Generator().manual_seed(0))
    (losses,) = task.moments(Batch(images, torch.arange(batch), torch.arange(batch)))
    losses["cross_entropy"].backward()
    gradient = task.dynamics.raw["error"].grad
    assert gradient is not None
    seconds = time.perf_counter() - begun
    print(
        f"{way:14} {steps} steps, batch {batch}: peak {peak():.2f} GiB, "
        f"{before:.2f} of it before the run; {seconds:.0f} s; gradient {float(gradient.norm()):.6g}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spec", default="efficientnet_b0")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--way", choices=WAYS, action="append", help="left out: both")
    parser.add_argument("--here", action="store_true", help="in this process")
    arguments = parser.parse_args()
    for way in arguments.way or WAYS:
        if arguments.here:
            one(way, arguments.spec, arguments.steps, arguments.batch)
        else:
            rest = ["--spec", arguments.spec, "--steps", arguments.steps, "--batch", arguments.batch]
            command = [sys.executable, __file__, "--here", "--way", way, *map(str, rest)]
            subprocess.run(command, check=False)


if __name__ == "__main__":
    main()
