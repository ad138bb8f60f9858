"""A simulation from the command line: the network, its device and type, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pcgraph.errors import Fault
    from pcgraph.network import PCNetwork
    from pcgraph.report.trajectory import Trajectory
    from pcgraph.simulation.tape import Tape
    from pcgraph.spec import Spec

from pcgraph.cli.speed import whole_batches


class Precision(StrEnum):
    """What the run computes in."""

    float32 = "float32"
    float64 = "float64"
    bfloat16 = "bfloat16"


@dataclass(frozen=True)
class Setup:
    """How to run."""

    steps: int | None
    seed: int
    device: torch.device
    dtype: Precision
    memory: str | None = None
    compiled: bool = False
    fast: bool = False

    def build(self, spec: Spec, trust: bool, verify: bool = True) -> PCNetwork:
        """The network, where and in what it is to compute."""
        import torch

        from pcgraph.building.network import build

        network = build(spec, trust=trust, seed=self.seed, verify=verify)
        return network.to(self.device, torch.float64 if self.dtype == Precision.float64 else torch.float32)

    def run(
        self,
        network: PCNetwork,
        batches: Iterable[tuple[list[str], Tensor]],
        record: Sequence[str],
        advance: Callable[[int], None],
        tape: Tape | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> Found:
        """Run the dynamics on all batches, and keep what ``record`` names, in memory or on a tape."""
        import torch

        from pcgraph.datasets.classes import classes_of, names_of
        from pcgraph.errors import DivergenceError
        from pcgraph.report.advice import explain_growth
        from pcgraph.report.summary import class_labels
        from pcgraph.report.trajectory import follow, followed
        from pcgraph.scheduler import Scheduler
        from pcgraph.tracing.facts import categories_of

        generator = torch.Generator().manual_seed(self.seed)
        trajectories: list[Trajectory] = []
        kept: dict[str, list[Tensor]] = {}
        terms: list[str] = []
        classes = 0
        plain = Scheduler(network)
        whole, size = whole_batches(network, self.compiled, self.fast, tell, followed(network, record)), 0
        bfloat16 = self.dtype == Precision.bfloat16
        growth: list[Fault] = []
        for batch in batches:
            size = size or len(batch[1])
            scheduler = plain
            if whole is not None and len(batch[1]) == size:
                with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
                    scheduler = whole(batch[1])
            try:
                ((found, run),) = follow(
                    scheduler,
                    [batch],
                    steps=self.steps,
                    record=record,
                    generator=generator,
                    bfloat16=bfloat16,
                    to=tape,
                    memory=self.memory,
                    seed=self.seed,
                    first=len(trajectories),
                )
            except DivergenceError as error:
                error.faults += tuple(explain_growth(network, batch[1]))
                raise
            growth = growth or explain_growth(network, batch[1], run.state)
            trajectories += found
            terms = list(run.energy)
            if found[0].classes:
                classes = run.output[0].shape[1]
            for item in record if tape is None else ():
                for name, series in recorded(run, item).items():
                    kept.setdefault(name, []).append(torch.stack(series).cpu())
            advance(len(found))
        backbone = network.spec.backbone
        said = classes_of(network.spec)
        names = names_of(said) if said is not None else None
        if names is None and backbone and backbone.model:
            names = categories_of(backbone.model, backbone.weights)
        tensors = {name: together(parts) for name, parts in kept.items()}
        growth = network.spec.located(growth)
        return Found(terms, class_labels(names, classes), trajectories, tensors, growth)


@dataclass(frozen=True)
class Found:
    """What a run found.

    Attributes:
        terms: Names of the error terms.
        labels: Names of the classes; empty without class scores.
        trajectories: What each image did.
        tensors: What was recorded in memory, by ``quantity:name``; each (steps + 1, images, *shape).
        growth: Why states grew far beyond their start; empty where none did.
    """

    terms: list[str]
    labels: list[str]
    trajectories: list[Trajectory]
    tensors: dict[str, Tensor]
    growth: list[Fault]


def find_device(name: str) -> torch.device:
    """The device that ``--device`` means.

    Raises:
        InputError: There is no such device here.
    """
    import torch

    from pcgraph.errors import Fault, InputError

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()
    except Exception as error:  # each kind of device has its own way to say that it is not there
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise InputError(
            Fault(f"device '{name}' cannot be used: {reason}", hint="Try 'cpu' or 'auto'.")
        ) from None
    return device


def recorded(run: Any, item: str) -> dict[str, list[Tensor]]:
    """The series of a run that ``--record`` asked for, by ``quantity:name``."""
    from torch import Tensor

    quantity, _, wanted = item.partition(":")
    if quantity == "output":
        return {"output": run.output} if all(isinstance(output, Tensor) for output in run.output) else {}
    series = getattr(run, quantity)
    return {f"{quantity}:{name}": values for name, values in series.items() if wanted in ("", name)}


def recorded_bytes(network: PCNetwork, record: Sequence[str], steps: int, images: int) -> int:
    """Bytes on the disk that recorded states, predictions, errors and gradients take, with their copy."""
    graph = network.graph
    nodes = {name: name for name in graph.nodes}
    targets = {name: edge.target for name, edge in graph.edges.items()}
    terms = {name: edges[0].target for name, edges in graph.terms.items()}
    of = {"values": nodes, "gradients": nodes, "predictions": targets, "errors": terms}
    sizes = 0
    for item in record:
        quantity, _, wanted = item.partition(":")
        for name, node in of.get(quantity, {}).items():
            if wanted in ("", name):
                sizes += math.prod(graph.nodes[node].shape)
    return 2 * sizes * network.dtype.itemsize * (steps + 1) * images


def together(parts: Sequence[Tensor]) -> Tensor:
    """The batches of a recorded quantity as one tensor; a batch that stopped early keeps its last value."""
    import torch

    longest = max(len(part) for part in parts)
    return torch.cat([torch.cat([part, *[part[-1:]] * (longest - len(part))]) for part in parts], dim=1)
