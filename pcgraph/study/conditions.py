"""The conditions of a study, by their names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from pcgraph.errors import Fault, FieldPath, InputError, SpecError, closest
from pcgraph.evaluation.conditions import (
    CLEAN,
    Condition,
    Corrupted,
    NoNoise,
    from_key,
    parse_corruptions,
    parse_noise,
)
from pcgraph.evaluation.corruptions import CORRUPTIONS, check_size
from pcgraph.study.file import Study

NOISES = ("gaussian", "salt_pepper")


def conditions_of(study: Study, size: tuple[int, ...]) -> list[Condition]:
    """Everything that images go through, besides staying as they are.

    Args:
        study: The file.
        size: (height, width) of the images.

    Raises:
        SpecError: There is no noise or corruption of that name or level, or none for so small images.
    """
    evaluate = study.evaluate
    found: list[Condition] = []
    for kind, levels in evaluate.noise.items():
        if kind not in NOISES:
            fault = Fault(f"unknown noise '{kind}'", ("evaluate", "noise", kind), closest(kind, NOISES))
            raise SpecError(study.located(fault))
        for place, level in enumerate(levels):
            with _at(study, ("evaluate", "noise", kind, place)):
                found += parse_noise(f"{kind}:{level!r}")
    if evaluate.corruptions is not None:
        with _at(study, ("evaluate", "corruptions")):
            check_size(size)
        names: list[str] = []
        for place, name in enumerate(evaluate.corruptions.names):
            with _at(study, ("evaluate", "corruptions", "names", place)):
                names += parse_corruptions(name)
        found += [
            Corrupted(name, level)
            for name in dict.fromkeys(names)
            for level in evaluate.corruptions.severities
        ]
    return found


@contextmanager
def _at(study: Study, path: FieldPath) -> Iterator[None]:
    """Faults at a place in the study file."""
    try:
        yield
    except InputError as error:
        raise SpecError(study.located(replace(fault, path=path)) for fault in error.faults) from None


def condition_of(name: str) -> Condition:
    """The condition that `key` named."""
    noise, level = from_key(name)
    if noise == CLEAN:
        return NoNoise()
    if noise in CORRUPTIONS:
        return Corrupted(noise, int(level))
    (found,) = parse_noise(f"{noise}:{level!r}")
    return found
