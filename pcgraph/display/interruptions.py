"""Interruptions that wait for a moment at which they do no harm."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let ctrl-C and SIGTERM wait until the block has ended.

    torch ends the whole process (``std::terminate``) if an exception comes while it computes with stand-ins
    for tensors and puts their mode back.
    """
    if threading.current_thread() is not threading.main_thread():  # where no signal is handled
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    came: list[int] = []
    for number, handler in handlers.items():
        if callable(handler):
            signal.signal(number, lambda received, _: came.append(received))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, handler)
        for received in dict.fromkeys(came):
            signal.raise_signal(received)
