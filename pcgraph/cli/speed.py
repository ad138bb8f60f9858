"""Other ways to run whole batches: ``--compile`` and ``--fast``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from pcgraph.network import PCNetwork
    from pcgraph.scheduler import Scheduler


def check_speed(compiled: bool, fast: bool, memory: str | None) -> None:
    """Make sure that the options go together.

    Raises:
        InputError: They do not.
    """
    from pcgraph.errors import Fault, InputError

    if fast and compiled:
        hint = "--fast alone compiles where that is fastest."
        raise InputError(Fault("--fast and --compile exclude each other", hint=hint))
    if fast and memory is not None:
        hint = "Take a smaller --batch instead."
        message = "--fast and --memory exclude each other: parts of a batch are not of the measured size"
        raise InputError(Fault(message, hint=hint))


def whole_batches(
    network: PCNetwork, compiled: bool, fast: bool, tell: Callable[[str], None], record: Sequence[str] = ()
) -> Callable[[Tensor], Scheduler] | None:
    """What makes the scheduler of whole batches when it is given the first; None for the usual one.

    Args:
        network: With ``fast`` its weights become constants.
        compiled: Whether steps are compiled.
        fast: Whether the fastest way is looked for.
        tell: Is told which that is.
        record: What the runs will keep.
    """
    if not (compiled or fast):
        return None
    made: list[Scheduler] = []

    def scheduler(inputs: Tensor) -> Scheduler:
        from pcgraph.scheduler import Scheduler

        if not made and compiled:
            made.append(Scheduler(network).compile())
        elif not made:
            found = network.requires_grad_(False).optimize(inputs, record=record)
            tell(f"Fastest: {found}")
            made.append(found.scheduler)
        return made[0]

    return scheduler
