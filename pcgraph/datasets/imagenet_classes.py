"""The classes of the ImageNet challenge."""

from __future__ import annotations

from pathlib import Path

_WNIDS = Path(__file__).parent.parent / "data" / "imagenet" / "wnids.txt"


def wnids() -> list[str]:
    """The WordNet numbers of ImageNet's 1,000 classes, by label."""
    return _WNIDS.read_text(encoding="ascii").split()


def class_names() -> list[str]:
    """The names of ImageNet's 1,000 classes, by label."""
    from pcgraph.tracing.facts import imagenet_categories

    return imagenet_categories()
