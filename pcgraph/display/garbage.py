"""When Python looks for unused objects."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Let Python look for unused objects that refer to each other after the block, if it would have within.

    It looks through all that there is whenever there is a quarter more. For what makes many objects that
    stay, as an import or a network does, it finds nothing, and torch alone has so many that each time takes
    0.15 s.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
