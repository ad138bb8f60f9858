"""Shapes, counts and lists in a few characters."""

from __future__ import annotations

from collections.abc import Iterable

MOST = 8
"""Items of a list that are shown."""


def format_shape(shape: tuple[int, ...]) -> str:
    """A shape as people write it: ``64x112x112``."""
    return "x".join(map(str, shape))


def format_count(count: int) -> str:
    """A large number in a few characters: ``11.7M``."""
    size = float(count)
    for unit in ("", "k", "M", "G"):
        if size < 1000:
            return f"{size:.3g}{unit}"
        size /= 1000
    return f"{size:.3g}T"


def listing(items: Iterable[str]) -> str:
    """The first of some items, and how many there are: ``a, b, c``, or ``a, b, ... (12 in all)``."""
    known = list(items)
    if len(known) <= MOST:
        return ", ".join(known)
    return f"{', '.join(known[: MOST - 2])}, ... ({len(known)} in all)"


def shortened(text: str, most: int) -> str:
    """The text in at most ``most`` characters: of a longer one, the middle is left out."""
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"
