"""What a study found out of the states of its arms: how alike they are to clean ones, and their errors."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from typing import Any

from pcgraph.evaluation.conditions import from_key
from pcgraph.study.results import Results, failure, to_csv
from pcgraph.study.work import ENERGY, FAILED, SIMILARITY

About = tuple[str, int, str, float]
"""Arm, seed, noise and level."""


@dataclass(frozen=True)
class SimilarityRow:
    """One line of ``similarity.csv``: one arm, seed, condition, node and step.

    Attributes:
        arm: The wiring.
        seed: The repetition.
        noise: The condition.
        level: Its strength.
        node: Whose states.
        step: Steps of the dynamics.
        cka: Linear CKA with the node's states of the clean images at step 0; NaN where all images are alike.
        failed: What went wrong; empty if nothing did.
        rdm: How alike their dissimilarity matrices are; NaN as there, and where it is not asked for.
    """

    arm: str
    seed: int
    noise: str
    level: float
    node: str
    step: int
    cka: float
    failed: str = ""
    rdm: float = math.nan


@dataclass(frozen=True)
class EnergyRow:
    """One line of ``energy.csv``: one arm, seed, condition, error term and step, all per unit of its target.

    Attributes:
        arm: The wiring.
        seed: The repetition.
        noise: The condition.
        level: Its strength.
        term: The error term, such as ``e2->e1``.
        step: Steps of the dynamics.
        energy: Its energy, the mean over the images.
        error: Root of the mean square of the error.
        state: Root of the mean square of the target's state.
        failed: What went wrong; empty if nothing did.
    """

    arm: str
    seed: int
    noise: str
    level: float
    term: str
    step: int
    energy: float
    error: float
    state: float
    failed: str = ""

    @property
    def share(self) -> float:
        """The error as a share of the state: 1 is what predicting nothing does."""
        return self.error / self.state if self.state else math.nan


def similarity_rows(results: Results) -> Iterator[SimilarityRow]:
    """Every number, in the order of the file; none, where the study does not ask for it."""
    for about, found, failed in _found(results, "similarity", SIMILARITY):
        if failed:
            yield SimilarityRow(*about, "", 0, math.nan, failed)
        for node, step, cka, *rdm in found:
            yield SimilarityRow(*about, node, step, _number(cka), rdm=_number(rdm[0] if rdm else None))


def energy_rows(results: Results) -> Iterator[EnergyRow]:
    """Every number, in the order of the file; none, where the study does not ask for it."""
    for about, found, failed in _found(results, "energy", ENERGY):
        if failed:
            yield EnergyRow(*about, "", 0, math.nan, math.nan, math.nan, failed)
        for term, step, energy, error, state in found:
            yield EnergyRow(*about, term, step, _number(energy), _number(error), _number(state))


def similarity_csv(results: Results) -> str:
    """``similarity.csv``: see `SimilarityRow`; ``rdm`` is there where the study asks for it."""
    asked = results.plan.study.analyses.similarity
    count = len(fields(SimilarityRow)) - (asked is None or asked.rdm is None)
    rows = [astuple(one)[:count] for one in similarity_rows(results)]
    return to_csv(rows, [one.name for one in fields(SimilarityRow)][:count])


def energy_csv(results: Results) -> str:
    """``energy.csv``: see `EnergyRow`."""
    return to_csv([*map(astuple, energy_rows(results))], [one.name for one in fields(EnergyRow)])


def _found(results: Results, kind: str, file: str) -> Iterator[tuple[About, list[list[Any]], str]]:
    """Every cell with what it found, or why it could not."""
    for one in results.analyses(kind):
        files = results.store.read(one.cell.key)
        failed = failure(files) if FAILED in files else ""
        found = [] if failed else json.loads(files[file])
        noise, level = from_key(one.condition)
        yield (one.arm, one.seed, noise, level), found, failed


def _number(value: float | None) -> float:
    return math.nan if value is None else value
