"""How many examples hypothesis draws: what a test asks for, times what the profile makes of it."""

from __future__ import annotations

from typing import Any

from hypothesis import settings

AS_WRITTEN = 100
"""The `max_examples` of a profile with which every test draws the number that it asks for."""


def examples(number: int, **others: Any) -> settings:
    """The settings of a test that needs so many examples in the everyday run.

    The profiles stand in `conftest.py`; ``HYPOTHESIS_PROFILE=thorough`` draws 25 times as many.
    """
    return settings(max_examples=max(1, number * settings().max_examples // AS_WRITTEN), **others)
