"""Whether something fits into this machine's memory, asked before it is made."""

from __future__ import annotations

import os

from pcgraph.errors import Fault, FieldPath, SpecError


def memory() -> float:
    """Bytes of memory that this machine has; infinite where it does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # no POSIX system
        return float("inf")


def check_room(size: int, what: str, path: FieldPath, hint: str = "") -> None:
    """Refuse what would need more than the machine's memory.

    Args:
        size: Bytes.
        what: What would need them: ``the weights of Linear``.
        path: The field of the spec that asks for it.
        hint: What to write instead.

    Raises:
        SpecError: There is not so much.
    """
    if size > (there := memory()):
        message = f"{what} would need {size / 2**30:.3g} GiB; this machine has {there / 2**30:.3g} GiB"
        raise SpecError(Fault(message, path, hint))
