"""What users type, name by name, as `public_names.txt` lists it: what goes missing breaks their work.

An addition is added there by hand. A removal needs a reason, and a line in the changelog.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import pcgraph as pcg
from pcgraph.cli import app
from pcgraph.files.shipped import shipped_specs
from pcgraph.spec.reference import SECTIONS

LISTED = (Path(__file__).parent / "public_names.txt").read_text(encoding="utf-8").split("\n")


def commands(command: Any, path: str) -> Iterator[str]:
    """Each command with its arguments, and with each of its options."""
    for name, inside in getattr(command, "commands", {}).items():
        yield from commands(inside, f"{path} {name}")
    for parameter in command.params:
        argument = parameter.param_type_name == "argument"
        options = [parameter.name.upper()] if argument else [*parameter.opts, *parameter.secondary_opts]
        yield from (f"{path} {option}" for option in options)
    yield path


def names() -> Iterator[str]:
    yield from (f"pcg.{name}" for name in pcg.__all__)
    yield from commands(typer.main.get_command(app), "pcgraph")
    yield from (f"spec {model.__name__}.{field}" for model in SECTIONS for field in model.model_fields)
    yield from (f"shipped {name}" for name in shipped_specs())


def test_nothing_that_users_type_has_come_or_gone_unseen():
    there, listed = set(names()), set(filter(None, LISTED))
    assert sorted(listed - there) == [], "is listed, and no longer there"
    assert sorted(there - listed) == [], "is there, and not listed yet"
    assert sorted(listed) == list(filter(None, LISTED)), "is not in order, or stands twice"


@pytest.mark.parametrize("name", pcg.__all__)
def test_every_public_name_can_be_had(name: str):
    assert getattr(pcg, name).__doc__
    assert name in dir(pcg)
