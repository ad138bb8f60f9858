"""Benchmarks: `python benchmarks/run.py [NAME ...] [--repeats N] [--steps N] [--json FILE]`.

Every case times pcgraph and the hook-style baseline (hook_style.py) in turn, in one process, checks that
they agree, and reports medians and the median of the ratios pair by pair; absolute times drift from
machine to machine and from hour to hour, ratios hardly.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torchvision
from hook_style import HookNetwork
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.resources import shipped_spec
from pcgraph.upsampled import UpsampledConvTranspose2d

TOLERANCE = 1e-4  # relative to the largest output


@dataclass(frozen=True)
class Row:
    """One line of the table; times in seconds a step."""

    case: str
    baseline: float
    pcgraph: float
    ratio: float
    lowest: float
    highest: float
    difference: float
    compile_seconds: float = 0.0


def median_row(
    case: str, baseline: Callable[[], Tensor], ours: Callable[[], Tensor], steps: int, repeats: int
) -> Row:
    """Time the two in turn after one warm-up of each."""
    expected, got = baseline(), ours()
    difference = float((expected - got).abs().max() / expected.abs().max())
    if difference > TOLERANCE:
        sys.exit(f"{case}: the outputs differ by {difference:.1e} of their size; nothing is compared")
    pairs = []
    for _ in range(repeats):
        begin = time.perf_counter()
        baseline()
        middle = time.perf_counter()
        ours()
        pairs.append(((middle - begin) / steps, (time.perf_counter() - middle) / steps))
    ratios = [b / a for a, b in pairs]
    return Row(
        case,
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        difference,
    )


def pair(name: str, model_name: str) -> tuple[pcg.PCNetwork, HookNetwork]:
    """The same network twice: as a pcgraph network, and with hooks."""
    spec = pcg.load_spec(shipped_spec(name))
    torch.manual_seed(0)
    model = torchvision.models.get_model(model_name).eval().requires_grad_(False)
    network = pcg.build(spec, model=model)
    network.requires_grad_(False)
    names = ["input", *spec.nodes]
    edges = [f"{upper}->{lower}" for lower, upper in itertools.pairwise(names)]
    dynamics = network.dynamics
    gains = [
        {
            key: getattr(spec.dynamics.nodes.get(node), key, None)
            for key in ("feedforward", "feedback", "error")
        }
        for node in spec.nodes
    ]
    gains = [{k: getattr(spec.dynamics, k) if v is None else v for k, v in gain.items()} for gain in gains]
    hooks = HookNetwork(
        copy.deepcopy(model),
        [spec.nodes[node].module for node in spec.nodes],
        [layer_by_layer(network.predictors[edge]) for edge in edges],
        gains,
        [dynamics.reach[edge] for edge in edges],
    )
    return network, hooks


def layer_by_layer(predictor: nn.Module) -> nn.Module:
    """The predictor without our shortcut for its layers."""
    return nn.Sequential(*predictor) if isinstance(predictor, UpsampledConvTranspose2d) else predictor


def dynamics_case(name: str, model: str, batch: int, compiled: bool) -> Callable[[int, int], Row]:
    """Ten steps (or as many as asked for), with the output of every step."""

    def measure(steps: int, repeats: int) -> Row:
        network, hooks = pair(name, model)
        scheduler = pcg.Scheduler(network)
        images = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(1))
        spent = 0.0
        if compiled:
            begin = time.perf_counter()
            scheduler.compile().run(images, steps=1)
            spent = time.perf_counter() - begin
        title = f"{name}, batch {batch}{', compiled' if compiled else ''}"
        row = median_row(
            title,
            lambda: hooks.run(images, steps),
            lambda: scheduler.run(images, steps=steps).output[-1],
            steps,
            repeats,
        )
        return Row(**{**asdict(row), "compile_seconds": spent})

    return measure


def overhead(steps: int, repeats: int) -> Row:
    """A step of three nodes of eight units, against the same arithmetic written out by hand."""
    spec = pcg.parse_spec(
        {
            "name": "tiny",
            "nodes": {name: {"shape": [8]} for name in "abc"},
            "edges": [
                {"source": "a", "target": "b", "predictor": ["Linear"]},
                {"source": "b", "target": "c", "predictor": ["Linear"]},
            ],
            "dynamics": {"rule": "energy", "rate": 0.1},
        }
    )
    network = pcg.build(spec).requires_grad_(False)
    scheduler = pcg.Scheduler(network)
    first, second = network.predictors["a->b"], network.predictors["b->c"]
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    a, steps = torch.randn(1, 8), max(steps, 200)

    def by_hand() -> Tensor:
        b = first(a)
        c = second(b)
        for _ in range(steps):
            lower, upper = b - first(a), c - second(b)
            b, c = b - 0.1 * (lower - upper @ second.weight), c - 0.1 * upper
        return c

    return median_row(
        "overhead: 3 nodes of 8 units",
        by_hand,
        lambda: scheduler.run(a, steps=steps).state.values["c"],
        steps,
        repeats,
    )


CASES: dict[str, Callable[[int, int], Row]] = {"overhead": overhead}
for _batch in (1, 8):
    CASES[f"efficientnet_b0-{_batch}"] = dynamics_case("efficientnet_b0", "efficientnet_b0", _batch, False)
    CASES[f"efficientnet_b0-{_batch}-compiled"] = dynamics_case(
        "efficientnet_b0", "efficientnet_b0", _batch, True
    )
CASES["vgg16-1"] = dynamics_case("vgg16", "vgg16", 1, False)
CASES["vgg16-4"] = dynamics_case("vgg16", "vgg16", 4, False)


def main() -> None:
    """Run the cases that were named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--json", type=Path, help="where to write the rows as JSON")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in CASES]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]!r}; there are {', '.join(CASES)}")
    rows = []
    for name in given.names or CASES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows.append(CASES[name](given.steps, given.repeats))
    table = Table(
        title=f"torch {torch.__version__}, {torch.get_num_threads()} threads; medians of {given.repeats}"
    )
    for column in ("case", "baseline s/step", "pcgraph s/step", "ratio", "range", "difference", "compile s"):
        table.add_column(column, justify="left" if column == "case" else "right")
    for row in rows:
        table.add_row(
            row.case,
            f"{row.baseline:.3g}",
            f"{row.pcgraph:.3g}",
            f"{row.ratio:.2f}",
            f"{row.lowest:.2f} to {row.highest:.2f}",
            f"{row.difference:.0e}",
            f"{row.compile_seconds:.0f}" if row.compile_seconds else "",
        )
    Console(width=120).print(table)
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
