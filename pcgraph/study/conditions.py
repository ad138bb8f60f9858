"""The conditions of a study, by their names."""

from __future__ import annotations

from pcgraph.errors import Fault, SpecError
from pcgraph.evaluation.conditions import (
    CLEAN,
    Condition,
    Corrupted,
    NoNoise,
    from_key,
    parse_corruptions,
    parse_noise,
)
from pcgraph.evaluation.corruptions import CORRUPTIONS
from pcgraph.study.file import Evaluate

NOISES = ("gaussian", "salt_pepper")


def conditions_of(evaluate: Evaluate) -> list[Condition]:
    """Everything that images go through, besides staying as they are.

    Raises:
        SpecError: There is no noise or corruption of that name.
    """
    found: list[Condition] = []
    for kind, levels in evaluate.noise.items():
        if kind not in NOISES:
            raise SpecError(Fault(f"unknown noise '{kind}'", ("evaluate", "noise", kind), _named(NOISES)))
        found += [one for level in levels for one in parse_noise(f"{kind}:{level!r}")]
    if evaluate.corruptions is not None:
        names = parse_corruptions(",".join(evaluate.corruptions.names))
        found += [Corrupted(name, level) for name in names for level in evaluate.corruptions.severities]
    return found


def condition_of(name: str) -> Condition:
    """The condition that `key` named."""
    noise, level = from_key(name)
    if noise == CLEAN:
        return NoNoise()
    if noise in CORRUPTIONS:
        return Corrupted(noise, int(level))
    (found,) = parse_noise(f"{noise}:{level!r}")
    return found


def _named(names: tuple[str, ...]) -> str:
    return f"There are {' and '.join(names)}."
