"""``pcgraph schema``: the spec language as JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pcgraph.cli.options import AsJson, Force, Quiet
from pcgraph.cli.screen import Screen
from pcgraph.display.safe import one_line


def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it to a .json file.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Print the JSON Schema of spec files, from which editors know the fields and their meaning."""
    from pcgraph.files import check_free, write_text
    from pcgraph.spec.reference import json_schema

    screen = Screen(as_json, quiet)
    if output is None:
        screen.result(json_schema(), json.dumps(json_schema(), indent=2, ensure_ascii=False))
        return
    check_free(output, force=force, suffixes=(".json",))
    write_text(output, json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")
    screen.result({"schema": str(output)}, *([] if quiet else [f"Wrote {one_line(output)}"]))
