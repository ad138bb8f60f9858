"""The conditions of a study, by their names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import get_args

from pcgraph.datasets.noise import Kind
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
from pcgraph.spec import TuningNoise
from pcgraph.study.file import Study

NOISES: tuple[str, ...] = get_args(Kind)


def conditions_of(study: Study, size: tuple[int, ...]) -> list[Condition]:
    """Everything that images go through, besides staying as they are, and what is unseen.

    Args:
        study: The file.
        size: (height, width) of the images.

    Raises:
        SpecError: There is no noise or corruption of that name or level, or none for so small images.
    """
    evaluate = study.evaluate
    found = _noises(study, "noise")
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


def unseen_of(study: Study, tuned: TuningNoise | None) -> list[Condition]:
    """What images go through that nothing is tuned for.

    Args:
        study: The file.
        tuned: The noise of the tuning.

    Raises:
        SpecError: There is no noise of that name or level, or it is seen.
    """
    for kind in study.evaluate.unseen:
        if kind in study.evaluate.noise or getattr(tuned, kind, None) is not None:
            where = "noise" if kind in study.evaluate.noise else "the noise of 'tune'"
            fault = Fault(f"'{kind}' is in {where}, too", ("evaluate", "unseen", kind), "Name it once.")
            raise SpecError(study.located(fault))
    return _noises(study, "unseen")


def _noises(study: Study, field: str) -> list[Condition]:
    found: list[Condition] = []
    for kind, levels in getattr(study.evaluate, field).items():
        if kind not in NOISES:
            fault = Fault(f"unknown noise '{kind}'", ("evaluate", field, kind), closest(kind, NOISES))
            raise SpecError(study.located(fault))
        for place, level in enumerate(levels):
            with _at(study, ("evaluate", field, kind, place)):
                found += parse_noise(f"{kind}:{level!r}")
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
