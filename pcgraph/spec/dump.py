"""A spec as YAML text, here or elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pcgraph.spec.edge import Edge
from pcgraph.spec.feedback import FeedbackItem
from pcgraph.spec.schema import Spec
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
    if spec.weights is not None and not spec.weights.startswith("package:"):
        update["weights"] = str((spec.folder / spec.weights).resolve())
    backbone = spec.backbone
    if backbone is not None and backbone.weights is not None:
        is_file = ":" not in backbone.weights and backbone.weights.endswith((".safetensors", ".pth", ".pt"))
        if is_file:
            path = str((spec.folder / backbone.weights).resolve())
            update["backbone"] = backbone.model_copy(update={"weights": path})
    for section in ("edges", "feedback"):
        update[section] = [_rooted_mask(item, spec.folder) for item in getattr(spec, section)]
    return spec.model_copy(update=update)


def _rooted_mask(item: FeedbackItem, folder: Path) -> FeedbackItem:
    if not isinstance(item, Edge) or item.mask is None or item.mask.file is None:
        return item
    mask = item.mask.model_copy(update={"file": str((folder / item.mask.file).resolve())})
    return item.model_copy(update={"mask": mask})
