"""How every command ends: with status 0, or with its faults on standard error and status 2."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import typer
from typer.core import TyperGroup

from pcgraph.cli.process import TERMINATED, Terminated
from pcgraph.display.safe import one_line, printable
from pcgraph.errors import Fault, PCGraphError, PCGraphWarning

INTERRUPTED = 130
FAULT = 2


class Commands(TyperGroup):
    """The group of all commands; it turns every fault of the user's into one clear report."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and leave the program with its status."""
        given = sys.argv[1:] if args is None else list(args)
        as_json = "--json" in given
        try:
            with notes():
                status = super().main(given, prog_name, complete_var, False, windows_expand_args, **extra)
        except PCGraphError as error:
            status = report(error.faults, as_json)
        except BrokenPipeError:
            # Whoever read our output has gone; Python would complain once more when it flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 1
        except OSError as error:
            status = report([_of_the_system(error)], as_json)
        except (KeyboardInterrupt, typer.Abort):
            status = INTERRUPTED
        except Terminated:
            status = TERMINATED
        except Exception as error:
            if not hasattr(error, "format_message"):
                raise  # a fault of ours: the traceback is what we need
            status = report([_of_usage(error)], as_json)
        if status in (INTERRUPTED, TERMINATED):
            print("Interrupted.", file=sys.stderr)
        sys.exit(status if isinstance(status, int) else 0)


@contextmanager
def notes() -> Iterator[None]:
    """Print each of pcgraph's own warnings as one line, without the place in the program."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", PCGraphWarning)
        show = warnings.showwarning

        def note(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, PCGraphWarning):
                print(f"Note: {one_line(message)}", file=sys.stderr)
            else:
                show(message, category, *where, **more)

        warnings.showwarning = note
        yield


def report(faults: Iterable[Fault], as_json: bool) -> int:
    """Print faults on standard error and give the exit status.

    With ``as_json`` they are one line, the last one: ``{"faults": [{"message": ..., ...}]}``.
    """
    faults = list(faults)
    if as_json:
        print(json.dumps({"faults": [asdict(fault) for fault in faults]}), file=sys.stderr)
    else:
        for fault in faults:
            message, hint, where = map(one_line, (fault.message, fault.hint, fault.where))
            print(printable(str(replace(fault, message=message, hint=hint, where=where))), file=sys.stderr)
        if len(faults) > 1:
            print(f"{len(faults)} faults.", file=sys.stderr)
    return FAULT


def _of_the_system(error: OSError) -> Fault:
    reason = error.strerror or str(error)
    return Fault(reason[:1].lower() + reason[1:], where=str(error.filename or ""))


def _of_usage(error: Any) -> Fault:
    """What typer has to say of the command line."""
    message = str(error.format_message()).strip()
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", "pcgraph")
    return Fault(message[:1].lower() + message[1:], hint=f"See '{command} --help'.")
