"""A spec as YAML text."""

from __future__ import annotations

from typing import Any

import yaml

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
