"""The networks of a study, as specs that every command takes."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pcgraph.files.weights import weights_digest
from pcgraph.learning.saving import PREDICTORS
from pcgraph.spec import parse_spec
from pcgraph.spec.dump import to_yaml
from pcgraph.spec.weights import PredictorFile
from pcgraph.study.cells import Cell
from pcgraph.study.plan import Measure
from pcgraph.study.results import Results
from pcgraph.study.work import FAILED, tuned_spec


def specs_of_arms(results: Results, folder: Path) -> dict[str, str]:
    """By file name, the spec of each arm and seed with what was tuned; its weights are those of a cell.

    Lesions and controls are no wirings, and what could not be trained or tuned is no network: they have none.

    Args:
        results: The study's.
        folder: Where the files will be, from which they find their weights.
    """
    arms = [arm.name for arm in results.plan.arms.wirings if arm.kind not in ("lesion", "control")]
    first: dict[tuple[str, int], Measure] = {}
    for one in results.plan.measures:
        if one.arm in arms:
            first.setdefault((one.arm, one.seed), one)
    specs = {(arm, seed): _spec(results, one.cell, arm, folder) for (arm, seed), one in first.items()}
    stems = _stems(arms)
    return {f"{stems[arm]}.seed{seed}.yaml": text for (arm, seed), text in specs.items() if text}


def _spec(results: Results, measure: Cell, arm: str, folder: Path) -> str:
    needs = [results.store.read(cell.key) for cell in measure.needs]
    if any(FAILED in files for files in needs):
        return ""
    spec = tuned_spec(parse_spec(measure.content["spec"]), needs).model_copy(update={"name": arm})
    for cell in measure.needs:  # one at most
        path = results.store.folder / cell.key / PREDICTORS
        weights = PredictorFile(
            file=os.path.relpath(path, folder), sha256=weights_digest(path), strict=cell.kind == "tune"
        )
        spec = spec.model_copy(update={"weights": weights})
    return to_yaml(spec)


def _stems(arms: list[str]) -> dict[str, str]:
    """By arm, a name for its files that no shell takes for anything else; no two are alike."""
    found: dict[str, str] = {}
    for arm in arms:
        stem = re.sub(r"[^\w.+-]+", "-", arm).strip("-.")
        while stem in found.values():
            stem += "-"
        found[arm] = stem
    return found
