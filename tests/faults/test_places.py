"""Where the results go: known before the work, and nothing else is touched."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from pcgraph.errors import InputError
from pcgraph.runs import folder as run_folders
from pcgraph.runs.folder import run_folder
from tests.cli.conftest import Cli

from . import contents, everything, hidden
from .conftest import draw_pictures

pytestmark = pytest.mark.heavy

RUN = ("run", "small.yaml", "photos:coffee", "--trust", "-q", "--record", "values:e1")
DATA = ("--trust", "--data", "folder:pictures", "-q")
EVALUATE = ("evaluate", "small.yaml", *DATA, "--noise", "gaussian:0.5")
TRAIN = (
    "train",
    "small.yaml",
    *DATA,
    "--tracker",
    "none",
    "--device",
    "cpu",
    "--epochs",
    "1",
    "--batch",
    "4",
)
QUERY = ("query", "small.yaml", "--trust", "--clamp", "input=random", "-q")
COMMANDS = {"run": RUN, "query": QUERY, "evaluate": EVALUATE, "train": TRAIN}
TABLES = {"run": "metrics.csv", "query": "metrics.csv", "evaluate": "evaluation.csv", "train": "losses.csv"}


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes that a network was built: the work has begun."""
    built: list[str] = []
    import pcgraph.building.network

    original = pcgraph.building.network.build

    def noted(*arguments: Any, **more: Any) -> Any:
        built.append("built")
        return original(*arguments, **more)

    monkeypatch.setattr(pcgraph.building.network, "build", noted)
    return built


@pytest.fixture(params=list(COMMANDS))
def command(request: pytest.FixtureRequest, small: Path, pictures: Path) -> str:
    return str(request.param)


def test_the_current_folder(cli: Cli, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What else is put there stays there when the run is replaced."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    paths = {"small.yaml": "../small.yaml", "folder:pictures": "folder:../pictures"}
    words = [paths.get(word, word) for word in COMMANDS[command]]
    outcome = cli(*words, "--out", ".")
    assert outcome.status == 0, outcome.err
    assert (tmp_path / "here" / TABLES[command]).is_file()
    (tmp_path / "here" / "notes.txt").write_text("mine")
    assert cli(*words, "--out", ".").status == 2
    again = cli(*words, "--out", ".", "--force")
    assert again.status == 0, again.err
    assert (tmp_path / "here" / "notes.txt").read_text() == "mine"


def test_a_link_to_a_folder_stays_one(cli: Cli, command: str, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    for more in ((), ("--force",)):
        outcome = cli(*COMMANDS[command], "--out", "link", *more)
        assert outcome.status == 0, outcome.err
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "disk" / TABLES[command]).is_file()


def test_a_link_to_nothing_is_refused(cli: Cli, command: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    outcome = cli(*COMMANDS[command], "--out", "link")
    assert outcome.status == 2
    assert "link: is a link to nothing" in outcome.err
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("place", ["/proc/none/run", "/proc", "/sys/none"])
def test_what_cannot_be_written_to_is_refused_before_the_work(
    cli: Cli, command: str, begin: list[str], place: str
) -> None:
    outcome = cli(*COMMANDS[command], "--out", place)
    assert outcome.status == 2
    assert "cannot be written to" in outcome.err or "exists already" in outcome.err
    assert command == "train" or begin == []


def test_the_default_in_a_folder_that_is_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc")
    with pytest.raises(InputError, match="cannot be written to"), run_folder("net"):
        pass


@pytest.mark.parametrize("command", ["run", "evaluate"])
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_a_mount_point(cli: Cli, small: Path, pictures: Path, tmp_path: Path, command: str) -> None:
    place = tmp_path / "mounted"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(place)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounts are not allowed here")
    try:
        for more in ((), ("--force",)):
            outcome = cli(*COMMANDS[command], "--out", "mounted", *more)
            assert outcome.status == 0, outcome.err
            assert (place / TABLES[command]).is_file()
            assert hidden(tmp_path) == []
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_runs_of_the_same_second_are_both_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As four of them that a loop in a shell starts; and with a clock that goes back."""
    monkeypatch.chdir(tmp_path)
    times = [
        datetime(2026, 1, 1, 12),
        datetime(2026, 1, 1, 12),
        datetime(2026, 1, 1, 11),
        datetime(2026, 1, 1, 12),
    ]

    class Clock:
        @staticmethod
        def now() -> datetime:
            return times.pop()

    monkeypatch.setattr(run_folders, "datetime", Clock)
    with ExitStack() as all_at_once:
        owned = [all_at_once.enter_context(run_folder("net")) for _ in range(4)]
        assert len({str(own.path) for own in owned}) == 4
        for number, own in enumerate(owned):
            (own.work / "number").write_text(str(number))
            own.finish()
    assert sorted(file.read_text() for file in Path("runs").glob("*/number")) == ["0", "1", "2", "3"]


PARALLEL = """
import sys, time
from pathlib import Path
from pcgraph.runs.folder import run_folder
while time.time() < float(sys.argv[2]): pass
out = Path(sys.argv[1]) if sys.argv[1] else None
with run_folder("net", out) as own:
    (own.work / "seed").write_text(sys.argv[3])
    own.finish()
"""


@pytest.mark.parametrize("out", ["", "same"])
def test_several_processes_at_once(tmp_path: Path, out: str) -> None:
    """Each gets a folder of its own; of those that want the same one, one gets it, and the others say so."""
    at = str((datetime.now() + timedelta(seconds=4)).timestamp())
    words = [sys.executable, "-c", PARALLEL, out, at]
    root = str(Path(__file__).parents[2])
    started = [
        subprocess.Popen([*words, str(n)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, stderr=-1)
        for n in range(4)
    ]
    said = [one.communicate()[1].decode() for one in started]
    good = [number for number, one in enumerate(started) if one.returncode == 0]
    kept = sorted(int(file.read_text()) for file in tmp_path.glob("**/seed"))
    assert kept == good == ([0, 1, 2, 3] if not out else good)
    assert len(good) == (1 if out else 4), said
    for number in set(range(4)) - set(good):
        assert re.search("exists already|another command is writing", said[number])


def test_a_folder_in_use_is_refused(
    cli: Cli, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pcgraph.files.locks.PATIENCE", 0.2)
    with run_folder("net", tmp_path / "out"):
        before = everything(tmp_path / "out")
        outcome = cli(*COMMANDS[command], "--out", "out")
        assert outcome.status == 2
        assert "another command is writing to this folder" in outcome.err
        assert everything(tmp_path / "out") == before


@pytest.mark.parametrize("anew", [False, True])
def test_a_folder_that_its_owner_takes_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew: bool
) -> None:
    """Of two commands the first is refused, when the second waits for it; a third may be there by then."""
    owner = ExitStack()
    owner.enter_context(run_folder("net", tmp_path / "out"))

    def sleep(_: float) -> None:
        owner.close()
        if anew:
            (tmp_path / "out").mkdir()

    monkeypatch.setattr("pcgraph.files.locks.time.sleep", sleep)
    with pytest.raises(InputError, match="has taken it away"), run_folder("net", tmp_path / "out"):
        pytest.fail("it has a folder that is not there")
    assert (tmp_path / "out").exists() == anew


@pytest.mark.parametrize("kind", ["run", "query", "evaluate"])
def test_a_training_does_not_go_on_in_the_folder_of_something_else(
    cli: Cli, small: Path, pictures: Path, tmp_path: Path, kind: str
) -> None:
    assert cli(*COMMANDS[kind], "--out", "r").status == 0
    before = everything(tmp_path / "r")
    for more in ((), ("--force",)):
        outcome = cli(*TRAIN, "--out", "r", "--resume", *more)
        assert outcome.status == 2
        assert f"holds a '{kind}', expected a 'train'" in outcome.err
        assert everything(tmp_path / "r") == before


def test_an_evaluation_does_not_go_on_in_the_folder_of_a_training(
    cli: Cli, small: Path, pictures: Path, tmp_path: Path
) -> None:
    assert cli(*TRAIN, "--out", "r").status == 0
    before = everything(tmp_path / "r")
    assert cli(*EVALUATE, "--out", "r", "--resume").status == 2
    assert everything(tmp_path / "r") == before


FAILING = {
    "run": (*RUN, "--noise", "gaussian:x"),
    "query": (*QUERY, "--free", "nothing"),
    "evaluate": ("evaluate", "small.yaml", "--trust", "--data", "folder:two", "-q"),
    "train": (*TRAIN, "--lr", "1e30", "--epochs", "3"),
}


@pytest.mark.parametrize("command", list(FAILING))
def test_the_old_run_is_kept_if_the_new_one_fails(
    cli: Cli, small: Path, pictures: Path, tmp_path: Path, command: str
) -> None:
    """And what fails in a new folder leaves nothing, so that the corrected command can have it."""
    draw_pictures(tmp_path / "two", classes=2)  # the network answers with ten
    assert cli(*COMMANDS[command], "--out", "r").status == 0
    before = everything(tmp_path / "r")
    outcome = cli(*FAILING[command], "--out", "r", "--force")
    assert outcome.status == 2
    assert everything(tmp_path / "r") == before
    assert cli(*FAILING[command], "--out", "new/deep").status == 2
    assert not (tmp_path / "new").exists()
    assert cli(*COMMANDS[command], "--out", "new/deep").status == 0
    assert cli(*COMMANDS[command], "--out", "r", "--force").status == 0
    assert contents(tmp_path / "new" / "deep") == contents(tmp_path / "r")


@pytest.mark.parametrize("command", ["train", "tune"])
def test_a_training_that_ends_with_what_is_no_loss(
    cli: Cli, small: Path, pictures: Path, tmp_path: Path, command: str
) -> None:
    """One batch, and what it makes of the weights is seen in the validation alone; TensorBoard has logs."""
    tune = "tune: {steps: [1, 3], noise: {gaussian: [0, 1]}, validation: 0.5}\n"
    small.write_text(f"{small.read_text()}train: {{validation: 0.5}}\n{tune}")
    words = (command, "small.yaml", *DATA, "--device", "cpu", "--epochs", "1", "--batch", "64", "--out", "r")
    assert cli(*words).status == 0
    before = everything(tmp_path / "r")
    outcome = cli(*words, "--force", "--lr", "1e30")
    assert outcome.status == 2
    assert "not finite" in outcome.err
    assert everything(tmp_path / "r") == before
    assert cli(*words[:-1], "new", "--lr", "1e30").status == 2
    assert not (tmp_path / "new").exists()


def test_an_evaluation_of_nothing_but_broken_images(cli: Cli, small: Path, pictures: Path) -> None:
    for file in pictures.rglob("*.png"):
        file.write_bytes(b"no image")
    outcome = cli(*EVALUATE, "--skip-broken", "--out", "r")
    assert outcome.status == 2
    assert "not one image can be read" in outcome.err
    assert not Path("r").exists()


def test_more_quantities_than_open_files(small: Path, tmp_path: Path) -> None:
    """A tape of 300 nodes' states with 64 open files."""
    code = """
import resource, torch, pcgraph as pcg
names = [f"n{k}" for k in range(300)]
spec = {"name": "many", "nodes": {n: {"shape": [2]} for n in names},
        "edges": [{"source": a, "target": b, "predictor": ["Linear"]} for a, b in zip(names, names[1:])],
        "dynamics": {"rule": "energy", "rate": 0.1}, "schedule": {"initial": "zeros"}}
scheduler = pcg.Scheduler(pcg.build(pcg.parse_spec(spec)))
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
with pcg.Tape("many.safetensors") as tape:
    scheduler.run(clamp={"n0": torch.ones(3, 2)}, steps=2, record=["values"], to=tape)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    held = load_file(tmp_path / "many.safetensors")
    assert len(held) == 300
    assert all(series.shape == (3, 3, 2) for series in held.values())


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    "left", [".run.json.a1b2c3d4.json", ".spec.yaml.zzzzzzzz.yaml", ".metrics.csv.a_b_c_d_.csv"]
)
@pytest.mark.parametrize("command", ["evaluate", "train", "run"])
def test_what_a_killed_command_left_of_its_first_file_is_nothing(
    cli: Cli, small: Path, pictures: Path, tmp_path: Path, command: str, left: str, resume: bool
) -> None:
    """The kill came between the first byte and the name."""
    if command == "run" and resume:
        pytest.skip("run goes on with nothing")
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / left).write_text('{"kind"')
    more = {
        "run": ("random",),
        "evaluate": ("--data", "folder:pictures"),
        "train": ("--data", "folder:pictures", "--tracker", "none", "--epochs", 1),
    }[command]
    done = cli(command, small, *more, "--trust", "-q", "--out", "r", *["--resume"][: int(resume)])
    assert done.status == 0, done.err
    assert (tmp_path / "r" / "run.json").is_file()


def test_hidden_files_of_people_are_no_leftovers(cli: Cli, small: Path, tmp_path: Path) -> None:
    for name in (".hidden", ".run.json", ".notes.txt.a1b2c3d4.txt"):
        (tmp_path / "r").mkdir()
        (tmp_path / "r" / name).write_text("mine")
        done = cli("run", small, "random", "--trust", "-q", "--out", "r")
        assert done.status == 2
        assert "exists already" in done.err
        assert (tmp_path / "r" / name).read_text() == "mine"
        (tmp_path / "r" / name).unlink()
        (tmp_path / "r").rmdir()
