"""Runs the commands of the table in docs/install.md where pcgraph is installed without extras.

`python .ci/base_install.py docs/install.md`: each command must end well, or, where the table names an extra,
with status 2 and a message that names it, and no traceback.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROW = re.compile(r"^\| `pcgraph ([^`]+)` \| (?:nothing|`(\w+)`) \|", re.MULTILINE)


def rows(page: str) -> list[tuple[str, str]]:
    """The commands of the table, each with the extra that it needs, or with nothing."""
    return ROW.findall(page)


def verdict(status: int, message: str, extra: str) -> str:
    """What is wrong with how a command ended; empty if nothing is."""
    if "Traceback" in message or status not in (0, 2):
        return "crashed"
    if not extra:
        return "" if status == 0 else "should work without extras"
    return "" if status == 2 and f"pcgraph[{extra}]" in message else f"should name the extra '{extra}'"


def main(page: Path) -> int:
    """Run them all in an empty folder; gives how many went wrong."""
    program = Path(sys.executable).with_name("pcgraph")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for command, extra in rows(page.read_text(encoding="utf-8")):
            words = [program, *shlex.split(command)]
            done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
            wrong = verdict(done.returncode, done.stderr, extra)
            print(f"{'FAILED' if wrong else 'ok':7} pcgraph {command}", flush=True)
            if wrong:
                print(f"{wrong}: status {done.returncode}\n{done.stderr}")
            bad += bool(wrong)
    return bad


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1])), 1))
