"""PVGG16 with its large kernels computed directly and in tiles, against the baseline in float32."""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Callable

import torch
from hook_style import images
from networks import pair
from table import Group, Measure, Record, check_agreement
from torch import Tensor

import pcgraph as pcg


def tiles(batch: int, bfloat16: bool = False) -> Measure:
    """The three in turn, in one process; with ``bfloat16`` both of pcgraph's under autocast."""

    def measure(steps: int, repeats: int) -> Record:
        case = f"vgg16, batch {batch}{', bfloat16' if bfloat16 else ''}"
        network, hooks = pair("vgg16")
        tiled, given = copy.deepcopy(network), images(batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            choices = pcg.choose_convolutions(tiled, batch)
        print(choices, file=sys.stderr, flush=True)

        def run(network: pcg.PCNetwork, direct: bool = False) -> Tensor:
            scheduler = pcg.Scheduler(network, direct=direct)
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                return scheduler.run(given, steps=steps).output[-1].float()

        ways: dict[str, Callable[[], Tensor]] = {
            "baseline": lambda: hooks.run(given, steps),
            "direct": lambda: run(network, direct=True),
            "chosen": lambda: run(tiled),
        }
        expected = ways["baseline"]()
        difference = {}
        for way in ("direct", "chosen"):  # which warms up, too
            got = ways[way]()
            if bfloat16:
                difference[way] = float((got - expected).abs().max() / expected.abs().max())
            else:
                difference[way] = check_agreement(f"{case}, {way}", expected, got)
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(repeats):
            for way, compute in ways.items():
                begin = time.perf_counter()
                compute()
                times[way].append((time.perf_counter() - begin) / steps)
        seconds = {way: statistics.median(spent) for way, spent in times.items()}
        ratios = {
            way: statistics.median(a / b for a, b in zip(times[way], times["baseline"], strict=True))
            for way in difference
        }
        saved = seconds["direct"] - seconds["chosen"]
        return {
            "case": case,
            **seconds,
            **{f"{way}_ratio": ratio for way, ratio in ratios.items()},
            **{f"{way}_difference": value for way, value in difference.items()},
            "megabytes": choices.bytes / 1e6,
            "choosing": choices.seconds,
            "paid_off": choices.seconds / saved if saved > 0 else None,
        }

    return measure


CASES: dict[str, Measure] = {
    "vgg16-tiles-1": tiles(1),
    "vgg16-tiles-4": tiles(4),
    "vgg16-bfloat16-1": tiles(1, bfloat16=True),
    "vgg16-bfloat16-4": tiles(4, bfloat16=True),
}

GROUP = Group(
    "PVGG16, large kernels computed directly and as chosen; s/step, ratios to the baseline in float32",
    {
        "baseline": ("baseline", ".3g"),
        "direct": ("direct", ".3g"),
        "chosen": ("chosen", ".3g"),
        "direct_ratio": ("direct ratio", ".2f"),
        "chosen_ratio": ("chosen ratio", ".2f"),
        "direct_difference": ("direct difference", ".0e"),
        "chosen_difference": ("chosen difference", ".0e"),
        "megabytes": ("transformed weights, MB", ".0f"),
        "choosing": ("choosing s", ".0f"),
        "paid_off": ("paid off after steps", ".0f"),
    },
    CASES,
)
