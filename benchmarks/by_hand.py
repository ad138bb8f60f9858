"""A study against the same comparison by hand: eight wirings of the digits network, two seeds.

`python benchmarks/by_hand.py [--epochs N] [--limit N]`

By hand that is a spec for each wiring, and 30 commands: `pcgraph train` of seven wirings (one has no feedback
to train) and `pcgraph evaluate` of eight, for each seed, one after the other. The study is one file and one
command. Both have all cores. Afterwards the accuracies of both are compared: a study computes with one thread
a cell, so that numbers on the edge of two classes may be rounded to the other side.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

SEEDS = (0, 1)
BASE = {
    "name": "digits",
    "backbone": {
        "model": "pcgraph:digits_cnn",
        "weights": "package:pcgraph/data/digits/backbone.safetensors",
        "input": [1, 28, 28],
        "preprocess": {"mean": [0.0], "std": [1.0]},
    },
    "nodes": {"e1": "relu1", "e2": "relu2", "e3": "relu3"},
    "dynamics": {"rule": "predify", "feedforward": 0.8, "feedback": 0.15, "error": 0.02},
    "schedule": {"order": "sweep", "steps": 8},
}
WIRINGS: dict[str, object] = {
    "none": "none",
    "chain": "chain",
    "dense": "dense",
    "to-input": "to_input",
    "skip": [{"skip": 2}],
    "top": [{"source": "e3", "target": "e2"}],
    "low": [{"source": "e2", "target": "e1"}],
    "long": ["chain", {"source": "e3", "target": "e1"}],
}
NOISE = {"gaussian": [0.5, 1.0], "salt_pepper": [0.2]}
Accuracies = dict[tuple[str, str, str], float]
"""Of the last step, by wiring, seed and condition."""


def pcgraph(folder: Path, *arguments: object) -> None:
    """A command, as a user types it."""
    command = [sys.executable, "-m", "pcgraph", *map(str, arguments)]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def rows(path: Path) -> Iterator[dict[str, str]]:
    """The lines of a table."""
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def last(table: Sequence[dict[str, str]], arm: str, seed: str) -> Accuracies:
    """Of the lines of one wiring and seed, in the table of a study or of an evaluation."""
    table = [row for row in table if row.get("metric", "accuracy") == "accuracy"]
    step = max(int(row["step"]) for row in table)
    return {
        (arm, seed, f"{row['noise']}:{float(row['level']):g}"): float(row.get("accuracy") or row["value"])
        for row in table
        if int(row["step"]) == step
    }


def by_hand(folder: Path, train: dict[str, object], limit: int) -> tuple[int, Accuracies]:
    """Spec by spec and command by command; how many commands that were."""
    commands, found = 0, {}
    noise = [f"--noise={kind}:{','.join(map(str, levels))}" for kind, levels in NOISE.items()]
    for name, feedback in WIRINGS.items():
        spec = folder / f"{name}.yaml"
        spec.write_text(yaml.safe_dump({**BASE, "feedback": feedback, "train": train}))
        for seed in SEEDS:
            trained, out = spec, f"{name}-{seed}"
            if feedback != "none":
                pcgraph(folder, "train", spec, "--seed", seed, "--out", f"{out}-trained", "-q")
                trained, commands = folder / f"{out}-trained" / "spec.yaml", commands + 1
            given = ["--data", "digits", "--limit", limit, *noise]
            pcgraph(folder, "evaluate", trained, *given, "--out", out, "-q")
            commands += 1
            found.update(last(list(rows(folder / out / "evaluation.csv")), name, str(seed)))
    return commands, found


def in_one(folder: Path, train: dict[str, object], limit: int) -> Accuracies:
    """The study."""
    (folder / "base.yaml").write_text(yaml.safe_dump({**BASE, "feedback": "chain"}))
    study = {
        "study": "by-hand",
        "base": "base.yaml",
        "seeds": list(SEEDS),
        "arms": WIRINGS,
        "train": train,
        "evaluate": {"data": "digits", "limit": limit, "noise": NOISE, "batch": 64},
        "reference": "chain",
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    pcgraph(folder, "study", "study.yaml", "--out", "study", "-q")
    table: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows(folder / "study" / "study.csv"):
        table.setdefault((row["arm"], row["seed"]), []).append(row)
    return {key: one for (arm, seed), lines in table.items() for key, one in last(lines, arm, seed).items()}


def main() -> None:
    """Both, in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--limit", type=int, default=200)
    given = parser.parse_args()
    train: dict[str, object] = {
        "data": "digits",
        "epochs": given.epochs,
        "batch": 32,
        "optimizer": {"lr": 0.003},
        "schedule": {"kind": "cosine"},
    }
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        begin = time.perf_counter()
        study = in_one(folder, train, given.limit)
        middle = time.perf_counter()
        commands, hand = by_hand(folder, train, given.limit)
        end = time.perf_counter()
    if hand.keys() != study.keys():
        sys.exit(f"not the same numbers: {sorted(hand.keys() ^ study.keys())}")
    apart = [abs(hand[key] - study[key]) for key in hand]
    print(f"{len(WIRINGS)} wirings, seeds {SEEDS}, {given.epochs} epochs, {given.limit} images")
    print(f"by hand: {commands} commands, {end - middle:.0f} s; study: {middle - begin:.0f} s; ", end="")
    print(f"ratio {(middle - begin) / (end - middle):.2f}")
    equal = sum(one == 0 for one in apart)
    print(f"accuracies: {equal} of {len(apart)} are equal; the largest difference is {max(apart):.4f}")


if __name__ == "__main__":
    main()
