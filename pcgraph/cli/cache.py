"""``pcgraph cache``: the compiled functions that are kept for later processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from pcgraph.cli.options import AsJson, Quiet
from pcgraph.cli.screen import Screen
from pcgraph.display.safe import one_line

if TYPE_CHECKING:
    from pcgraph.files.cache import Entry


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Forget all of them.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show what --compile and --fast keep for later processes, and where; or forget it.

    The folder is that of the variable PCGRAPH_CACHE ('0' keeps nothing), or 'pcgraph' in the user's cache.
    What was not used longest goes first when all together takes more than 4 GB.
    """
    from pcgraph.files.cache import user_cache
    from pcgraph.simulation.memory import shown

    screen = Screen(as_json, quiet)
    kept = user_cache()
    if kept is None:
        screen.result(
            {"folder": None, "entries": []}, *([] if quiet else ["Nothing is kept: PCGRAPH_CACHE is 0."])
        )
        return
    if clear:
        count = kept.clear()
        told = [] if quiet else [f"Forgot {count} entries of {one_line(kept.folder)}"]
        screen.result({"folder": str(kept.folder), "forgotten": count}, *told)
        return
    entries = kept.entries()
    rows = [
        f"{entry.path.name[:12]}  {shown(entry.size):>8}  {_what(entry):>17}"
        f"  last used {time.strftime('%Y-%m-%d %H:%M', time.localtime(entry.used))}"
        for entry in entries
    ]
    total = sum(entry.size for entry in entries)
    rows.append(f"{one_line(kept.folder)}: {len(entries)} entries, {shown(total)} of {shown(kept.limit)}")
    listed = [{"key": entry.path.name, "bytes": entry.size, "used": entry.used} for entry in entries]
    screen.result({"folder": str(kept.folder), "entries": listed}, *rows)


def _what(entry: Entry) -> str:
    operations = entry.about.get("operations")
    return "a choice of ways" if operations is None else f"{operations} operations"
