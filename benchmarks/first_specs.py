"""First specs: what `pcgraph new` writes for a model, and how far 50 steps of it carry the states.

    python benchmarks/first_specs.py                # every torchvision classifier, one of each timm family
    python benchmarks/first_specs.py torchvision:resnet18 timm:vit_tiny_patch16_224 --size 96

Weights are random. A file of results (``--to``) lets a run that was cut off go on where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

import pcgraph as pcg
from pcgraph.analysis.stability import growth
from pcgraph.cli.new import holding_spec
from pcgraph.dynamics.gains import Predify
from pcgraph.tracing.facts import default_input
from pcgraph.tracing.suggesting import suggest_nodes
from pcgraph.tracing.table import trace

BOUND = 3.0
"""No state may grow beyond so many times its first norm."""


SIZES = (
    "atto",
    "femto",
    "pico",
    "nano",
    "xxs",
    "xxtiny",
    "xtiny",
    "tiny",
    "xs",
    "mini",
    "_t_",
    "_s_",
    "small",
)
"""Words for small models in timm's names, the smallest first."""


def models() -> list[str]:
    """All of torchvision's classifiers, and of each module of timm one model that its name calls small."""
    import timm
    import torchvision

    found = [f"torchvision:{name}" for name in torchvision.models.list_models(module=torchvision.models)]
    for family in timm.list_modules():
        if names := timm.list_models(module=family):
            found.append(f"timm:{min(names, key=_size)}")
    return found


def _size(name: str) -> tuple[int, int, str]:
    rank = next((place for place, word in enumerate(SIZES) if word in f"{name}_"), len(SIZES))
    return rank, len(name), name


def measure(model: str, size: int | None, steps: int) -> dict[str, Any]:
    """`new`, `build` and some steps; at the model's own input where it does not take the size."""
    begun = time.perf_counter()
    own = default_input(model)
    shapes = [(own[0], size, size), own] if size and size < own[-1] else [own]
    for shape in shapes:
        try:
            table = trace(model, shape)
            network = pcg.build(pcg.parse_spec(holding_spec(table, suggest_nodes(table), None)[0]))
            break
        except pcg.PCGraphError as error:
            reason = str(error).splitlines()[0]
    else:
        return {"model": model, "refused": reason}
    built = time.perf_counter()
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    worst = growth(pcg.Scheduler(network), image, steps, enough=1e6)
    node = max(worst, key=worst.__getitem__)
    assert isinstance(network.dynamics, Predify)
    return {
        "model": model,
        "input": list(shape),
        "growth": worst[node],
        "node": node,
        "lambda": network.dynamics.spec.feedback,
        "alpha": network.dynamics.auto,
        "build_s": round(built - begun, 1),
        "steps_s": round(time.perf_counter() - built, 1),
    }


def rows(names: Iterable[str], size: int | None, steps: int, to: Path | None) -> Iterable[dict[str, Any]]:
    """A row a model, from the file where it has one."""
    lines = to.read_text().splitlines() if to is not None and to.exists() else []
    known = {row["model"]: row for row in map(json.loads, lines)}
    for name in names:
        row = known.get(name)
        if row is None:
            try:
                row = measure(name, size, steps)
            except Exception as error:  # one model that cannot be had is no reason to stop
                row = {"model": name, "refused": f"{type(error).__name__}: {error}"}
            if to is not None:
                with to.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        yield row


def main() -> None:
    """Print the table; the exit status is 1 where a state grew too far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="*", help="Left out: all.")
    parser.add_argument("--size", type=int, help="Side of the image where the model takes it.")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--to", type=Path, help="File of results, which is added to.")
    chosen = parser.parse_args()
    failed = 0
    for row in rows(chosen.models or models(), chosen.size, chosen.steps, chosen.to):
        if "refused" in row:
            print(f"{row['model']:<50} refused: {row['refused']}", flush=True)
            continue
        failed += not row["growth"] <= BOUND
        side, what = row["input"][-1], f"{row['growth']:8.3g} at {row['node']}"
        print(
            f"{row['model']:<50} {side:>4} {what:<18} {row['build_s']:>6} s {row['steps_s']:>6} s", flush=True
        )
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
