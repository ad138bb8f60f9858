"""Writes the parts of the pages that are made from the code: `python docs/generate.py [PAGE ...]`.

A page holds them between ``<!-- generated: KIND NAME -->`` and ``<!-- end -->``, so that they can be read in
the clone. `make docs` runs this first, and a test finds a page that is out of date.
"""

import enum
import inspect
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PART = re.compile(r"(<!-- generated: (\w+)(?: (\S+))? -->\n).*?(<!-- end -->)", re.DOTALL)
CELL = re.compile(r"^# %%(?P<prose> \[markdown\])?$\n(?P<text>.*?)(?=^# %%|\Z)", re.DOTALL | re.MULTILINE)


def up_to_date(page: Path) -> str:
    """The text of a page with its generated parts made anew."""

    def made(match: re.Match[str]) -> str:
        begin, kind, name, end = match.groups()
        return f"{begin}\n{GENERATED[kind](name).strip()}\n\n{end}"

    return PART.sub(made, page.read_text(encoding="utf-8"))


def tutorial(name: str) -> str:
    """A tutorial script as a page: its prose cells as text, the others as code."""
    parts = []
    for cell in CELL.finditer((ROOT / "tutorials" / f"{name}.py").read_text(encoding="utf-8")):
        text = cell["text"].strip()
        prose = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
        parts.append(prose if cell["prose"] else f"```python\n{text}\n```")
    return "\n\n".join(parts)


def spec_reference(_: str) -> str:
    """The tables of every field of a spec, from the descriptions in the schema."""
    from pcgraph.spec import reference

    return reference()


def cli_reference(_: str) -> str:
    """Every command with its arguments and options."""
    import typer

    from pcgraph.cli import app

    return "\n\n".join(described("pcgraph", typer.main.get_command(app)))


def described(name: str, command: Any) -> Iterator[str]:
    """A command, or the commands of a group, as sections of a page."""
    if hasattr(command, "commands"):
        for inner, one in command.commands.items():
            yield from described(f"{name} {inner}", one)
        return
    given = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    usage = " ".join([name, "[OPTIONS]", *(parameter.metavar for parameter in given)])
    yield f"## `{name}`"
    yield inspect.cleandoc(command.help).replace("\b\n", "")
    yield f"```text\n{usage}\n```"
    head = ["| Argument or option | Meaning | Default |", "|---|---|---|"]
    yield "\n".join([*head, *(row(parameter) for parameter in [*given, *options])])


def row(parameter: Any) -> str:
    """A line of a command's table."""
    named = parameter.param_type_name == "option"
    names = [f"`{name}`" for name in parameter.opts] if named else [f"`{parameter.metavar}`"]
    if named and parameter.metavar:
        names[-1] = f"{names[-1][:-1]} {parameter.metavar}`"
    default = parameter.default
    choices = f"{', '.join(one.value for one in type(default))}. " if isinstance(default, enum.Enum) else ""
    value = default.value if isinstance(default, enum.Enum) else default
    shown = "required" if parameter.required else "" if value is None or value is False else f"`{value}`"
    cells = (", ".join(names), choices + " ".join((parameter.help or "").split()), shown)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def cost_tables(spec: str) -> str:
    """What the published studies cost for one network, as benchmarks/cost.py calculates it."""
    return "\n".join(sheet.markdown() for sheet in _cost()["sheets"](spec))


def scale_table(_: str) -> str:
    """What ImageNet-C takes from measured steps, as benchmarks/cost.py calculates it."""
    return str(_cost()["scale"]().markdown())


def _cost() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks" / "cost.py"), run_name="cost")


GENERATED = {
    "tutorial": tutorial,
    "spec": spec_reference,
    "cli": cli_reference,
    "cost": cost_tables,
    "scale": scale_table,
}

if __name__ == "__main__":
    for page in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(DOCS.rglob("*.md")):
        page.write_text(up_to_date(page), encoding="utf-8")
