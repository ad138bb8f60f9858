"""PVGG16 with large kernels computed directly and in tiles: `python benchmarks/vgg16.py [CASE ...]`.

Times in turn, in one process: the hook-style baseline (hook_style.py) in float32, pcgraph as it is, and
pcgraph with what `choose_convolutions` chose; all in float32, or with pcgraph under bfloat16 autocast. In
float32 the outputs must agree to 1e-4 of their size; what bfloat16 loses is printed.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from run import TOLERANCE, pair
from torch import Tensor

import pcgraph as pcg

CASES = {
    f"{dtype}-{batch}": (getattr(torch, dtype), batch)
    for dtype in ("float32", "bfloat16")
    for batch in (1, 4)
}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        seconds: Of a step.
        ratio: To the baseline in float32, the median of the pairs.
        difference: Of the last outputs from the baseline's, relative to the largest.
        transformed: Bytes of transformed weights.
        choosing: Seconds that choosing took.
        paid_off: Steps after which it has paid off.
    """

    case: str
    way: str
    seconds: float
    ratio: float
    difference: float
    transformed: int = 0
    choosing: float = 0.0
    paid_off: float = 0.0


def measure(case: str, steps: int, repeats: int, memory: float) -> list[Row]:
    """The rows of one case."""
    dtype, batch = CASES[case]
    images = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    network, hooks = pair("vgg16", "vgg16")
    tiled = copy.deepcopy(network)

    def precision() -> torch.autocast | nullcontext[None]:
        return nullcontext() if dtype == torch.float32 else torch.autocast("cpu", dtype)

    with precision():
        choices = pcg.choose_convolutions(tiled, batch, memory=memory)
    print(choices, file=sys.stderr, flush=True)

    def run(network: pcg.PCNetwork) -> Tensor:
        with precision():
            return pcg.Scheduler(network).run(images, steps=steps).output[-1].float()

    ways: dict[str, Callable[[], Tensor]] = {
        "hooks, float32": lambda: hooks.run(images, steps),
        "direct": lambda: run(network),
        "chosen": lambda: run(tiled),
    }
    expected = ways["hooks, float32"]()
    difference = {
        way: float((compute() - expected).abs().max() / expected.abs().max()) for way, compute in ways.items()
    }
    if dtype == torch.float32 and max(difference.values()) > TOLERANCE:
        sys.exit(f"{case}: the outputs differ by {difference} of their size; nothing is compared")
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, compute in ways.items():
            begin = time.perf_counter()
            compute()
            times[way].append((time.perf_counter() - begin) / steps)
    baseline = times["hooks, float32"]
    seconds = {way: statistics.median(spent) for way, spent in times.items()}
    ratio = {
        way: statistics.median(t / b for t, b in zip(spent, baseline, strict=True))
        for way, spent in times.items()
    }
    rows = [Row(case, way, seconds[way], ratio[way], difference[way]) for way in ways]
    saved = seconds["direct"] - seconds["chosen"]
    rows[-1] = Row(
        **{
            **asdict(rows[-1]),
            "transformed": choices.bytes,
            "choosing": choices.seconds,
            "paid_off": choices.seconds / saved if saved > 0 else float("inf"),
        }
    )
    return rows


def main() -> None:
    """Measure the cases that were named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, help="left out, what torch takes")
    parser.add_argument("--memory", type=float, default=2e9, help="bytes for transformed weights")
    parser.add_argument("--json", type=Path, help="where to write the rows as JSON")
    given = parser.parse_args()
    unknown = [case for case in given.cases if case not in CASES]
    if unknown:
        parser.error(f"no case is called {unknown[0]!r}; there are {', '.join(CASES)}")
    if given.threads:
        torch.set_num_threads(given.threads)
    rows: list[Row] = []
    for case in given.cases or CASES:
        print(f"{case} ...", file=sys.stderr, flush=True)
        rows += measure(case, given.steps, given.repeats, given.memory)
    table = Table(
        title=f"PVGG16, {given.steps} steps; torch {torch.__version__}, {torch.get_num_threads()} threads; "
        f"medians of {given.repeats}"
    )
    for column in (
        "case",
        "way",
        "s/step",
        "ratio",
        "difference",
        "transformed MB",
        "choosing s",
        "paid off",
    ):
        table.add_column(column, justify="left" if column in ("case", "way") else "right")
    for row in rows:
        chosen = [f"{row.transformed / 1e6:.0f}", f"{row.choosing:.0f}", f"{row.paid_off:.0f} steps"]
        table.add_row(
            row.case,
            row.way,
            f"{row.seconds:.3g}",
            f"{row.ratio:.2f}",
            f"{row.difference:.0e}",
            *(chosen if row.choosing else []),
        )
    Console(width=120).print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"peak resident memory of the process, all ways together: {peak / 1e9:.1f} GB")
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
