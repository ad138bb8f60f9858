"""Whether something fits into this machine's memory, asked before it is made."""

from __future__ import annotations

from pcgraph.errors import Fault, FieldPath, SpecError
from pcgraph.files.free_space import memory


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
