"""Benchmarks: `make bench`, or `python benchmarks/run.py [NAME ...] [--repeats N] [--steps N] [--json FILE]`.

Every case times pcgraph and a baseline in turn, in one process (or, for memory and start-up, one process
each), checks that they agree, and reports medians and the median of the ratios pair by pair: absolute times
drift from machine to machine and from hour to hour, ratios hardly. A name means all cases that begin with
it. Comparisons with other packages need an environment of their own: see against_fabricpc.py, against_pcx.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import dynamics
import memory
import reading
import roofline
import scaling
import startup
import torch
import vgg16
from rich.console import Console
from table import Record, filled

GROUPS = {
    module.__name__: module.GROUP for module in (dynamics, vgg16, memory, scaling, startup, roofline, reading)
}
CASES = {name: measure for group in GROUPS.values() for name, measure in group.cases.items()}


def fill(page: Path, found: dict[str, Record], about: str) -> None:
    """Put the tables of a page between its marks, such as ``<!-- bench: memory -->`` and ``<!-- end -->``."""
    text = page.read_text(encoding="utf-8")
    for key, group in GROUPS.items():
        records = [found[name] for name in group.cases if name in found]
        if records:
            text = filled(text, key, f"{group.markdown(records)}\n{about}")
    page.write_text(text, encoding="utf-8")


def main() -> None:
    """Run the cases that were named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument(
        "--json", type=Path, help="where to write the rows as JSON; rows of other cases in it are kept"
    )
    parser.add_argument("--page", type=Path, help="fill in the tables of docs/performance.md")
    given = parser.parse_args()
    for name in given.names:
        if not any(case.startswith(name) for case in CASES):
            parser.error(f"no benchmark is called {name!r}; there are {', '.join(CASES)}")
    chosen = [name for name in CASES if not given.names or name.startswith(tuple(given.names))]
    found: dict[str, Record] = (
        json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    )
    for name in chosen:
        print(f"{name} ...", file=sys.stderr, flush=True)
        found[name] = {**CASES[name](given.steps, given.repeats), "repeats": given.repeats}
        if given.json:  # as they come: a long run that is stopped has written something
            given.json.write_text(json.dumps(found, indent=2) + "\n")
    console = Console(width=None if sys.stdout.isatty() else 160)
    about = f"Medians; torch {torch.__version__}, {torch.get_num_threads()} threads."
    print(about)
    for group in GROUPS.values():
        records = [found[name] for name in group.cases if name in chosen]
        if records:
            console.print(group.table(records))
    if given.page:
        fill(given.page, found, about)
    print(
        "Against FabricPC and PCX (JAX), in environments of their own: benchmarks/against_{fabricpc,pcx}.py"
    )


if __name__ == "__main__":
    main()
