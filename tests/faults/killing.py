"""Kills commands at random moments: ``python -m tests.faults.killing COUNT SEED FOLDER``.

The program has everything imported and forks for each command, so that a trial costs the command alone. It
ends with status 1 at the first result that is neither absent, nor whole, nor goes on to the same end.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import torch

import pcgraph.cli
import pcgraph.cli.process
import pcgraph.datasets
import pcgraph.evaluation
import pcgraph.learning.tasks
import pcgraph.report.results
import pcgraph.training
from tests.cli.conftest import SMALL

from . import contents, hidden
from .conftest import draw_pictures

TUNE = "tune: {steps: [1, 3], noise: {gaussian: [0, 1]}, batch: 4, validation: 0}\n"
DATA = ("small.yaml", "--trust", "--data", "folder:pictures", "-q")
FIT = (*DATA, "--tracker", "none", "--device", "cpu", "--epochs", "3", "--batch", "4")
COMMANDS = {
    "run": ("run", "small.yaml", "photos", "--trust", "-q", "--record", "values", "--batch", "2"),
    "query": ("query", "small.yaml", "--trust", "-q", "--clamp", "input=random", "--steps", "50"),
    "evaluate": ("evaluate", *DATA, "--batch", "2", "--noise", "gaussian:0.5,1,2"),
    "train": ("train", *FIT),
    "tune": ("tune", *FIT),
}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ENDS = {signal.SIGTERM: (0, 130, 143), signal.SIGINT: (0, 130)}


def command(words: tuple[str, ...], output: Path) -> int:
    """Start a command in a process of its own."""
    child = os.fork()
    if child:
        return child
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stream = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    status = 70
    try:
        torch.set_num_threads(1)
        sys.modules["matplotlib"] = None  # type: ignore[assignment]
        sys.argv = ["pcgraph", *words]
        pcgraph.cli.main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    finally:
        sys.stdout.flush()
        os._exit(status)


def wait(child: int) -> int:
    """The status of a command; of one that was killed, minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def trial(name: str, seconds: float, whole: dict[str, bytes], draw: random.Random) -> str:
    """Kill a command, and then run it to its end; what was left in between."""
    words = (*COMMANDS[name], "--out", "r")
    other = Path("other") / name
    force = draw.random() < 0.3
    if force:
        shutil.copytree(other, "r")
    number = draw.choice(SIGNALS)
    child = command((*words, "--force") if force else words, Path("said.txt"))
    time.sleep(draw.uniform(0, seconds * 1.1))
    os.kill(child, number)
    status = wait(child)
    said = Path("said.txt").read_text()
    folder = Path("r")
    assert number == signal.SIGKILL or status in ENDS[number] or status == -number, (status, said)
    assert "Traceback" not in said, said
    goes_on = name not in ("run", "query")
    left = contents(folder)
    if not goes_on or force:
        replaced = (folder / ".new").exists()
        assert not left or left == whole or (force and left == contents(other)) or replaced, sorted(left)
    if number != signal.SIGKILL and status != -number:
        assert not [path for path in hidden(folder) if ".partial" not in path or not goes_on], hidden(folder)
    again = "--resume" if goes_on and not force else "--force"
    more = (again,) if goes_on or (folder / "run.json").exists() else ()
    status = wait(command((*words, *more), Path("said.txt")))
    assert status == 0, (status, Path("said.txt").read_text())
    assert contents(folder) == whole, [n for n in whole if contents(folder).get(n) != whole[n]]
    assert not hidden(folder), hidden(folder)
    shutil.rmtree(folder)
    return "whole" if left == whole else "begun" if left else "absent"


def main() -> None:
    """Kill ``COUNT`` commands."""
    count, seed, place = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    os.chdir(place)
    draw_pictures(Path("pictures"))
    Path("small.yaml").write_text(SMALL + TUNE)
    draw = random.Random(seed)
    found: Counter[tuple[str, str]] = Counter()
    whole, seconds = {}, {}
    for name, words in COMMANDS.items():
        for folder, more in ((f"whole/{name}", ()), (f"other/{name}", ("--seed", "5"))):
            begun = time.monotonic()
            status = wait(command((*words, "--out", folder, *more), Path("said.txt")))
            assert status == 0, Path("said.txt").read_text()
        seconds[name], whole[name] = time.monotonic() - begun, contents(Path("whole") / name)
    for _ in range(count):
        name = draw.choice(list(COMMANDS))
        found[name, trial(name, seconds[name], whole[name], draw)] += 1
    for name in COMMANDS:
        left = ", ".join(f"{number} {what}" for (n, what), number in sorted(found.items()) if n == name)
        tried = sum(number for (n, _), number in found.items() if n == name)
        print(f"killed {name}: {tried} tried, {tried} survived ({left or 'none'})")


if __name__ == "__main__":
    main()
