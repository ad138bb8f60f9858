"""Tiny folders of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Writer = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """A function that writes a picture of one colour under ``tmp_path`` and gives its path."""

    def written(name: str, value: int = 0, size: tuple[int, int] = (12, 10)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = np.full((size[1], size[0], 3), value, dtype=np.uint8)
        Image.fromarray(picture).save(path, format="PNG")  # no loss, whatever the name ends in
        return path

    return written
