"""What the README and the pages show is true: specs are valid, commands and files exist."""

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import typer

from pcgraph.spec import parse_spec
from pcgraph.study import Arms, load_study
from pcgraph.study.trials import Trials

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(*languages: str) -> list[object]:
    return [
        pytest.param(text, id=f"{page.name}-{number}")
        for page in PAGES
        for number, (language, text) in enumerate(FENCE.findall(page.read_text(encoding="utf-8")))
        if language in languages
    ]


@pytest.mark.parametrize("text", blocks("yaml"))
def test_specs_and_studies_in_the_pages_are_valid(text: str, tmp_path: Path):
    if text.startswith("study:"):
        (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
        study = load_study(tmp_path / "study.yaml")
        assert Arms(study if study.search is None else Trials(study).stand_in).wirings
    else:
        assert parse_spec(text).name


@pytest.mark.parametrize("text", blocks("python"))
def test_python_in_the_pages_compiles(text: str):
    compile(text, "page", "exec")


@pytest.mark.parametrize("text", blocks("console", "bash"))
def test_commands_in_the_pages_are_understood(text: str):
    """Every command line of ours, started by hand or by torchrun and its like, has a meaning."""
    from pcgraph.cli import app

    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        found = re.search(r"^(?:\$ |\s*)(?:.*-m )?pcgraph (.*)", line)
        if found is None:
            continue
        command, words = typer.main.get_command(app), shlex.split(found[1], comments=True)
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        command.make_context(command.name, words)  # a usage error where it cannot be parsed


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", FENCE.sub("", page.read_text(encoding="utf-8"))):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_rooms_are_those_that_the_import_contracts_hold():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {one["id"]: one for one in config["tool"]["importlinter"]["contracts"]}
    layers = [layer.split(" | ") for layer in contracts["rooms"]["layers"]]
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", page, re.MULTILINE)
    assert rows == [room for layer in layers for room in layer]
    package = ROOT / "pcgraph"
    inside = {
        path.stem
        for path in (*package.glob("*.py"), *(init.parent for init in package.glob("*/__init__.py")))
    }
    assert set(rows) == inside - {"__init__", "__main__"}


def test_every_tutorial_has_a_page():
    scripts = {script.stem for script in (ROOT / "tutorials").glob("*.py")}
    pages = {page.stem for page in (ROOT / "docs" / "tutorials").glob("*.md")}
    assert scripts == pages


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=[pytest.mark.heavy] if "generated: cost" in text else [])
        for page in PAGES
        if "<!-- generated:" in (text := page.read_text("utf-8"))
    ],
)
def test_generated_parts_are_up_to_date(generate: ModuleType, page: Path):
    text = page.read_text(encoding="utf-8")
    assert text.count("<!-- generated:") == text.count("<!-- end -->") == len(generate.PART.findall(text))
    assert generate.up_to_date(page) == text, "run `make docs`"


def test_an_old_page_is_found(generate: ModuleType, tmp_path: Path):
    """What stands between the marks is replaced, what stands around them is not."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- generated: tutorial 1_first_run -->\nold\n<!-- end -->\nafter\n", "utf-8")
    text = generate.up_to_date(page)
    assert text.startswith("before\n<!-- generated: tutorial 1_first_run -->\n\n# From a CNN")
    assert text.endswith("\n\n<!-- end -->\nafter\n")
    assert "old\n" not in text


def test_every_command_and_option_has_its_row(generate: ModuleType):
    """Counted from the application itself."""
    from pcgraph.cli import app

    def commands(group: object) -> Iterator[object]:
        for one in group.commands.values():
            yield from commands(one) if hasattr(one, "commands") else [one]

    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    all_commands = list(commands(typer.main.get_command(app)))
    assert page.count("\n## `pcgraph ") == len(all_commands)
    for command in all_commands:
        section = page.split(f" {command.name}`\n")[1].split("\n## ")[0]
        assert section.count("\n| `") == len(command.params), command.name
        for option in [name for one in command.params for name in one.opts if name.startswith("--")]:
            assert f"`{option}" in section
