"""The constants of packages, of which torch makes a copy as it loads them."""

from __future__ import annotations

import ctypes
from pathlib import Path

MAPPINGS = Path("/proc/self/maps")
LIBRARY = ".wrapper.so"
"""How the names of the libraries in packages end."""
LEAST = 2**20
"""Bytes of a mapping that is worth it; what else is read only in a library is smaller."""
MADV_PAGEOUT = 21
"""Of Linux: pages leave memory, and are read anew from their file if somebody needs them."""


def page_out_constants() -> None:
    """Take the constants of packages out of memory that were read in their libraries; the copies stay.

    Nobody reads those again, but they would be resident as long as the package is. Elsewhere than on Linux,
    and where temporary files are in memory themselves, nothing happens.
    """
    if not MAPPINGS.exists():
        return
    system = ctypes.CDLL(None)
    for line in MAPPINGS.read_text().splitlines():
        if not line.endswith(LIBRARY):
            continue
        span, access, *_ = line.split()
        begin, end = (int(address, 16) for address in span.split("-"))
        if access == "r--p" and end - begin >= LEAST:
            system.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), MADV_PAGEOUT)
