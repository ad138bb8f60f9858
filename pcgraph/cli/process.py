"""What every command needs of its process: streams to print to, and an end that leaves nothing behind."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from typing import Any

TERMINATED = 128 + signal.SIGTERM
YOUNG = 20_000
"""Objects after which Python looks for unused ones that refer to each other.

Its own 700 are for programs with few objects. What torch makes when it is imported, and long specs, would be
looked through so often that it takes a fifth to a third of the time of `pcgraph check`.
"""


class Terminated(SystemExit):
    """SIGTERM has come; the status is the same wherever the command was."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)


def prepare() -> None:
    """Print into nothing where a stream was closed, and what it cannot say escaped; end well on SIGTERM.

    Without this, the first file that is opened would take the place of a closed stream, and ctrl-C would be
    lost where it comes while Python clears up an object.
    """
    gc.set_threshold(YOUNG)
    sys.unraisablehook = not_lost
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return  # one of several that wait for each other: it ends at once
    own = os.getpid()

    def end(number: int, frame: Any) -> None:
        if os.getpid() != own:  # a process that reads images ahead
            os._exit(TERMINATED)
        raise Terminated

    signal.signal(signal.SIGTERM, end)


def not_lost(found: Any) -> None:
    """Send an interruption again that came where no exception can leave, as in a weakref's callback.

    All else that is ignored there is shown, as Python does.
    """
    numbers = {KeyboardInterrupt: signal.SIGINT, Terminated: signal.SIGTERM}
    number = numbers.get(found.exc_type)
    if number is None:
        sys.__unraisablehook__(found)
        return
    again = threading.Timer(0.01, os.kill, (os.getpid(), number))  # here it would be lost once more
    again.daemon = True
    again.start()
