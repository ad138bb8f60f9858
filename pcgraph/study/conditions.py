"""The conditions of a study, by their names."""

from __future__ import annotations

from pcgraph.errors import Fault, SpecError, closest
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
from pcgraph.study.file import Study

NOISES = ("gaussian", "salt_pepper")


def conditions_of(study: Study) -> list[Condition]:
    """Everything that images go through, besides staying as they are.

    Raises:
        SpecError: There is no noise or corruption of that name.
    """
    evaluate = study.evaluate
    found: list[Condition] = []
    for kind, levels in evaluate.noise.items():
        if kind not in NOISES:
            fault = Fault(f"unknown noise '{kind}'", ("evaluate", "noise", kind), closest(kind, NOISES))
            raise SpecError(study.located(fault))
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
