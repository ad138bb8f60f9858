"""How the command starts and ends: at once, in every form, and without a traceback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pcgraph
from pcgraph.cli.screen import Screen
from pcgraph.spec import json_schema

from .conftest import SMALL, Cli

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "matplotlib", "timm", "pydantic", "networkx", "PIL", "numpy")


def run(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pcgraph", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['pcgraph', '--help']\n"
        "from pcgraph.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "Usage: pcgraph" in done.stdout
    assert done.stderr.strip() == "[]"


CHAIN = """
name: chain
nodes: {a: {shape: [2]}, b: {shape: [2]}, c: {shape: [2]}}
edges:
  - {source: a, target: b, predictor: [Linear]}
  - {source: b, target: c, predictor: [Linear]}
"""


@pytest.mark.heavy
@pytest.mark.parametrize(("spec", "more"), [("digits", ()), ("chain.yaml", ("torch._dynamo",))])
def test_check_imports_no_library_that_it_does_not_use(tmp_path: Path, spec: str, more: tuple[str]) -> None:
    """Each of them takes about as long as torch itself."""
    unused = (
        "torchvision",
        "PIL",
        "matplotlib",
        "scipy",
        "pandas",
        "accelerate",
        "timm",
        "transformers",
        *more,
    )
    (tmp_path / "chain.yaml").write_text(CHAIN)
    code = (
        f"import sys; sys.argv = ['pcgraph', 'check', '{spec}']\n"
        "from pcgraph.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        f"print([name for name in {unused!r} if name in sys.modules], file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=True)
    assert "OK" in done.stdout
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("command", ["trace", "new", "check", "show", "run", "schema", "demo", "import"])
def test_every_command_has_help(cli: Cli, command: str) -> None:
    outcome = cli(command, "--help")
    assert outcome.status == 0
    assert f"Usage: pcgraph {command}" in outcome.out
    if command != "import":
        for option in ("--json", "--quiet"):
            assert option in outcome.out


def test_python_m_is_the_same_command() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"pcgraph {pcgraph.__version__}\n")


def test_no_arguments_show_the_help(cli: Cli) -> None:
    outcome = cli()
    assert outcome.status == 2
    assert "Usage" in outcome.out + outcome.err


def test_a_reader_that_leaves_early_is_no_fault(tmp_path: Path) -> None:
    command = f"{sys.executable} -m pcgraph schema | head -c 20"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert len(done.stdout) == 20
    assert done.stderr == ""


@pytest.mark.heavy
def test_an_interrupt_ends_with_130_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = ["run", "small.yaml", "--trust", "--steps", "1000000", "--out", "out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pcgraph", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment,
        # a shell's background jobs, and so their children, ignore interrupts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        for _ in range(10):  # while torch is imported, an interrupt may be swallowed there
            time.sleep(2)
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                out, err = process.communicate(timeout=5)
                break
    finally:
        process.kill()
    # Python reports some interrupts (inside `exec`, which imports use) as its own death by the signal;
    # a shell shows 130 for both.
    assert process.returncode in (130, -signal.SIGINT)
    assert out == ""
    assert err.endswith("Interrupted.\n")
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_schema_is_printed_and_written(cli: Cli, tmp_path: Path) -> None:
    assert cli("schema").json == json_schema()
    assert cli("schema", "--json").json == json_schema()
    assert cli("schema", "-o", "s.json", "-q").out == ""
    assert json.loads((tmp_path / "s.json").read_text()) == json_schema()
    again = cli("schema", "-o", "s.json")
    assert (again.status, again.err) == (2, "s.json: exists already\n  Choose another name, or --force.\n")
    assert cli("schema", "-o", "s.json", "--force").status == 0
    assert cli("schema", "-o", "s.yaml").err == "s.yaml: expected a file that ends in .json, got '.yaml'\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chek"], "no such command 'chek'. Did you mean 'check'"),
        (["check"], "missing argument 'SPEC'"),
        (
            ["trace", "torchvision:resnet18", "--input", "3,x"],
            "expected whole numbers such as 3,224,224, got '3,x'",
        ),
        (["run", "a.yaml", "--stpes", "3"], "no such option: --stpes"),
        (["run", "a.yaml", "--dtype", "float8"], "invalid value for '--dtype'"),
    ],
)
def test_usage_faults(cli: Cli, arguments: list[str], message: str) -> None:
    outcome = cli(*arguments)
    assert outcome.status == 2
    assert outcome.out == ""
    assert message in outcome.err
    assert outcome.err.endswith("--help'.\n")
    as_json = cli(*arguments, "--json")
    assert (as_json.status, as_json.out) == (2, "")
    assert as_json.faults[0]["message"] in outcome.err


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(as_json=True, quiet=False).result({"a": [float("nan"), 1.5, float("inf")], "b": {"c": (1, "x")}})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5, None], "b": {"c": [1, "x"]}}
