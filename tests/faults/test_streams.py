"""Standard output that is closed, full, or cannot say what is printed: the results are on the disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from pcgraph.cli.process import Terminated, not_lost
from tests.cli.conftest import SMALL

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
RUN = "run small.yaml pictures --trust --out r"


def shell(place: Path, line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    words = f"'{sys.executable}' -m pcgraph {line}"
    return subprocess.run(["bash", "-c", words], cwd=place, env=environment, capture_output=True, text=True)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (16, 16), "red").save(tmp_path / "pictures" / "é漢.png")
    return tmp_path


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(place: Path, closed: str) -> None:
    done = shell(place, f"{RUN} {closed}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (place / "r" / "metrics.csv").read_text().count("energy") > 3
    assert (place / "r" / "run.json").is_file()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
@pytest.mark.parametrize("more", ["", "--json"])
def test_streams_that_are_not_utf8(place: Path, encoding: str, more: str) -> None:
    done = shell(place, f"{RUN} {more} | cat > said", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.stderr == ""
    assert (place / "said").stat().st_size > 0
    assert (place / "r" / "run.json").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_stream(place: Path) -> None:
    """What is printed is lost, and said to be; what was computed is not."""
    done = shell(place, f"{RUN} > /dev/full")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert (place / "r" / "run.json").is_file()


class Cleared:
    """What is interrupted while Python clears it up."""

    def __init__(self, interruption: type[BaseException]) -> None:
        self.interruption = interruption

    def __del__(self) -> None:
        raise self.interruption


@pytest.mark.parametrize(("interruption", "number"), [(KeyboardInterrupt, "SIGINT"), (Terminated, "SIGTERM")])
def test_an_interruption_while_python_clears_up_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException], number: str
) -> None:
    came: list[int] = []
    monkeypatch.setattr(sys, "unraisablehook", not_lost)
    before = signal.signal(getattr(signal, number), lambda number, _: came.append(number))
    try:
        Cleared(interruption)
        for _ in range(200):
            time.sleep(0.01 * (not came))
    finally:
        signal.signal(getattr(signal, number), before)
    assert came == [getattr(signal, number)]


@pytest.mark.parametrize("words", ["schema", "check small.yaml --trust"])
def test_without_docstrings_and_asserts(place: Path, words: str) -> None:
    own, plain = (shell(place, f"{words} --json", PYTHONOPTIMIZE=level) for level in ("2", ""))
    assert (own.returncode, own.stderr) == (0, "")
    assert json.loads(plain.stdout).keys() - json.loads(own.stdout).keys() <= {"description"}


def test_sigterm_has_its_status_wherever_it_comes() -> None:
    """Where nothing of ours catches it any more, or yet, Python ends with it."""
    code = "import os, signal; from pcgraph.cli.process import prepare; prepare(); os.kill(os.getpid(), 15)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (143, "")


def test_other_errors_while_python_clears_up_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", not_lost)
    Cleared(ZeroDivisionError)
    assert "ZeroDivisionError" in capsys.readouterr().err
