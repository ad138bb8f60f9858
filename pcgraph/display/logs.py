"""What libraries log of a fault that our own message tells."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_log(name: str) -> Iterator[None]:
    """Switch a logger off: it would go before our message, and take a screen."""
    log = logging.getLogger(name)
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
