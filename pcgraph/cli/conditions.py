"""What ``--noise``, ``--corruptions`` and ``--attack`` ask for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcgraph.datasets import ImageData
    from pcgraph.evaluation import Condition


def noises(texts: Sequence[str]) -> list[Condition]:
    """What ``--noise`` asks for."""
    from pcgraph.evaluation.conditions import parse_noise

    return [one for text in texts for one in parse_noise(text)]


def corrupted(
    images: ImageData, names: str | None, severities: str, path: Path | None
) -> Sequence[Condition]:
    """What ``--corruptions`` asks for, computed or from a folder."""
    from pcgraph.errors import Fault, InputError
    from pcgraph.evaluation.conditions import Corrupted, parse_corruptions, parse_severities
    from pcgraph.evaluation.corruptions import check_available, check_size
    from pcgraph.evaluation.imagenet_c import from_folder

    if names is None:
        if path is not None:
            hint = "For example --corruptions benchmark."
            raise InputError(Fault("--imagenet-c needs --corruptions: which ones", hint=hint))
        return []
    chosen, levels = parse_corruptions(names), parse_severities(severities)
    if path is not None:
        return from_folder(path, images, chosen, levels)
    check_available()
    check_size(images.shape[1:])
    return [Corrupted(name, level) for name in chosen for level in levels]


def attacks(
    texts: Sequence[str], at: str | None, last: int, iterations: int, targeted: bool
) -> Sequence[Condition]:
    """What ``--attack`` asks for."""
    from pcgraph.errors import Fault, InputError
    from pcgraph.evaluation.attacks import check_available, parse_attack
    from pcgraph.evaluation.conditions import parse_numbers

    steps = [float(last)] if at is None else parse_numbers(at, "--target-step")
    wrong = [step for step in steps if step not in range(last + 1)]
    if wrong:
        raise InputError(Fault(f"--target-step: expected whole numbers from 0 to {last}, got {wrong[0]:g}"))
    if texts:
        check_available()
    return [
        one for text in texts for one in parse_attack(text, [int(s) for s in steps], iterations, targeted)
    ]
