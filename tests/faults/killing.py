"""Kills commands at random moments: ``python -m tests.faults.killing COUNT SEED FOLDER``.

The program has everything imported and forks for each command, so that a trial costs the command alone.
Every trial has a seed of its own and a line in ``FOLDER/log.jsonl``; started again, it goes on behind the
last line. It ends with status 1 where a result was neither absent, nor whole, nor went on to the same end.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
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
    status = 70
    try:
        status = in_child(words, output)
    except KeyboardInterrupt:  # ours to lose: the command has not begun, or is over
        status = 130
    except BaseException:  # for the log: nothing may come to here
        traceback.print_exc()
    finally:
        os._exit(status)


def in_child(words: tuple[str, ...], output: Path) -> int:
    """The status of a command that runs in this process."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stream = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        torch.set_num_threads(1)
        sys.modules["matplotlib"] = None  # type: ignore[assignment]
        sys.argv = ["pcgraph", *words]
        try:
            pcgraph.cli.main()
        except SystemExit as end:
            sys.stdout.flush()
            return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:  # before it began, or after it ended
        return 130
    return 70


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


def undisturbed(name: str) -> tuple[float, dict[str, bytes]]:
    """Run a command to its end, and another with another seed; how long one takes, and what it leaves."""
    seconds = 0.0
    for folder, more in ((f"whole/{name}", ()), (f"other/{name}", ("--seed", "5"))):
        begun = time.monotonic()
        status = wait(command((*COMMANDS[name], "--force", "--out", folder, *more), Path("said.txt")))
        assert status == 0, Path("said.txt").read_text()
        seconds = time.monotonic() - begun
    return seconds, contents(Path("whole") / name)


def tried(number: int, seed: int, before: dict[str, tuple[float, dict[str, bytes]]]) -> dict[str, str]:
    """One trial, and what came of it."""
    draw = random.Random(f"{seed} {number}")
    name = draw.choice(list(COMMANDS))
    shutil.rmtree("r", ignore_errors=True)
    try:
        return {"command": name, "left": trial(name, *before[name], draw), "fault": ""}
    except AssertionError as error:
        shutil.copytree("r", f"failed-{number}", dirs_exist_ok=True)
        return {"command": name, "left": "wrong", "fault": repr(error)[:2000]}


def totals(lines: list[dict[str, str]]) -> int:
    """Print how many of each command were tried, and survived; how many did not."""
    for name in COMMANDS:
        own = [line for line in lines if line["command"] == name]
        lost = [line["fault"] for line in own if line["fault"]]
        left = ", ".join(f"{n} {what}" for what, n in sorted(Counter(line["left"] for line in own).items()))
        print(f"killed {name}: {len(own)} tried, {len(own) - len(lost)} survived ({left or 'none'})")
        print(*lost, sep="\n", file=sys.stderr)
    return sum(bool(line["fault"]) for line in lines)


def main() -> None:
    """Kill ``COUNT`` commands."""
    count, seed, place = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    os.chdir(place)
    draw_pictures(Path("pictures"))
    Path("small.yaml").write_text(SMALL + TUNE)
    log = Path("log.jsonl")
    log.touch()
    before = {name: undisturbed(name) for name in COMMANDS}
    for number in range(len(log.read_text().splitlines()), count):
        line = json.dumps(tried(number, seed, before))
        with log.open("a") as file:
            file.write(line + "\n")
    if totals([json.loads(line) for line in log.read_text().splitlines()]):
        sys.exit(1)


if __name__ == "__main__":
    main()
