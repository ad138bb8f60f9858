"""A spec as YAML text, here or elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pcgraph.spec.backbone import names_a_file
from pcgraph.spec.edge import Edge
from pcgraph.spec.feedback import FeedbackItem
from pcgraph.spec.schema import Spec
from pcgraph.spec.weights import (
    Checkpoint,
    PredictorFile,
    WeightFile,
    file_of,
    is_file_reference,
    pinned_file,
    rooted_file,
    with_file,
)
from pcgraph.spec.yaml_source import _TAG, SCALARS


class _Dumper(yaml.SafeDumper):
    """Quotes what either YAML 1.1 (other programs) or our reader would not take for text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _name, (_pattern, _first) in SCALARS.items():
    _Dumper.add_implicit_resolver(_TAG + _name, _pattern, _first)


def to_yaml(spec: Spec) -> str:
    """The spec as YAML text in its short forms; `parse_spec` reads it back to an equal spec."""
    text: str = yaml.dump(
        spec.dump(), Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=100
    )
    return text


def rooted(spec: Spec) -> Spec:
    """The spec with full paths of its files (weights, masks), so that it holds in any folder."""
    update: dict[str, Any] = {}
    if spec.weights is not None:
        update["weights"] = _rooted_weights(spec.weights, spec.folder)
    backbone = spec.backbone
    if backbone is not None and backbone.weights is not None and is_file_reference(backbone.weights):
        path = _rooted_weights(backbone.weights, spec.folder)
        backbone = backbone.model_copy(update={"weights": path})
    if backbone is not None and names_a_file(backbone.classes):
        file = str((spec.folder / Path(backbone.classes).expanduser()).resolve())
        backbone = backbone.model_copy(update={"classes": file})
    update["backbone"] = backbone
    for section in ("edges", "feedback"):
        update[section] = [_rooted_mask(item, spec.folder) for item in getattr(spec, section)]
    return spec.model_copy(update=update)


def pinned(spec: Spec) -> Spec:
    """The spec with the digest of each weight file that has none, so that `build` knows them again."""
    update: dict[str, Any] = {}
    if spec.weights is not None:
        update["weights"] = pinned_file(spec.weights, spec.folder, PredictorFile)
    backbone = spec.backbone
    if backbone is not None and backbone.weights is not None and is_file_reference(backbone.weights):
        found = pinned_file(backbone.weights, spec.folder, Checkpoint)
        update["backbone"] = backbone.model_copy(update={"weights": found})
    return spec.model_copy(update=update)


def _rooted_weights(weights: str | WeightFile, folder: Path) -> str | WeightFile:
    return with_file(weights, rooted_file(file_of(weights), folder))


def _rooted_mask(item: FeedbackItem, folder: Path) -> FeedbackItem:
    if not isinstance(item, Edge) or item.mask is None or item.mask.file is None:
        return item
    mask = item.mask.model_copy(update={"file": str((folder / item.mask.file).resolve())})
    return item.model_copy(update={"mask": mask})
