"""What the feedback predicts, as pictures inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open

from pcgraph.errors import Fault, InputError
from pcgraph.report.page.parts import Strip
from pcgraph.report.page.reading import RunFolder

TENSORS = "tensors.safetensors"
SHOWN = 4
"""Images whose predictions are shown."""
WIDEST = 224
"""Pixels; larger pictures are made smaller."""
Pixels = NDArray[np.float32]


def reconstructions(run: RunFolder, named: bool) -> list[Strip]:
    """For each image and edge: the state that is predicted, the prediction, and their difference.

    There are none where the run did not record predictions and values.

    Raises:
        InputError: The file of tensors cannot be read.
    """
    file = run.path / TENSORS
    if not file.is_file():
        return []
    strips = []
    try:
        with safe_open(file, framework="numpy") as tensors:
            names = set(tensors.keys())
            images = run.record.get("images") or []
            for place in range(min(SHOWN, len(images))):
                for edge in _edges(run.record, names):
                    target = edge.rpartition("->")[2]
                    if f"values:{target}" not in names:
                        continue
                    both = f"predictions:{edge}", f"values:{target}"
                    shapes = [tensors.get_slice(name).get_shape() for name in both]
                    if any(len(shape) != 5 or shape[1] <= place for shape in shapes):
                        continue
                    predicted, value = (_last(file, tensors, name, place) for name in both)
                    image = str(images[place].get("name", place))
                    title = f"{run.label}: {image}, {edge}" if named else f"{image}, {edge}"
                    strips.append(_strip(title, value, predicted, _preprocess(run.record, target)))
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(Fault(f"cannot be read: {error}", where=str(file))) from None
    return strips


def _last(file: Path, tensors: Any, name: str, place: int) -> Pixels:
    """One image's map at the last step; numpy has no bfloat16, torch has."""
    series = tensors.get_slice(name)
    here = slice(series.get_shape()[0] - 1, None), slice(place, place + 1)
    if series.get_dtype() != "BF16":
        return series[here][0, 0].astype(np.float32)  # type: ignore[no-any-return]
    with safe_open(file, framework="pt") as same:
        return same.get_slice(name)[here][0, 0].float().numpy()  # type: ignore[no-any-return]


def _edges(record: Mapping[str, Any], names: Set[str]) -> list[str]:
    """The edges whose predictions are there, in the order of the graph; of a backbone, the feedback edges."""
    there = [name.removeprefix("predictions:") for name in names if name.startswith("predictions:")]
    known = record.get("feedback_edges") or sorted(there)
    return [edge for edge in known if edge in there]


def _strip(title: str, value: Pixels, predicted: Pixels, colours: tuple[Pixels, Pixels] | None) -> Strip:
    error = (value - predicted).mean(axis=0)
    wide = float(np.abs(error).max()) or 1.0
    shown = [("state", _picture(value, colours, None)), ("prediction", _picture(predicted, colours, value))]
    mapped = matplotlib.colormaps["RdBu_r"](error / wide / 2 + 0.5)[..., :3]
    return Strip(title, [*shown, (f"difference ±{wide:.2g}", _uri(mapped))])


def _picture(state: Pixels, colours: tuple[Pixels, Pixels] | None, like: Pixels | None) -> str:
    """An image in its colours; a feature map as its mean over channels, scaled like the state's."""
    if colours is not None and state.shape[0] in (1, 3):
        mean, std = colours
        pixels = np.moveaxis(state * std + mean, 0, -1)
        return _uri(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)
    flat = state.mean(axis=0)
    scale = flat if like is None else like.mean(axis=0)
    low, high = float(scale.min()), float(scale.max())
    return _uri(matplotlib.colormaps["viridis"]((flat - low) / ((high - low) or 1.0))[..., :3])


def _preprocess(record: Mapping[str, Any], target: str) -> tuple[Pixels, Pixels] | None:
    """Mean and standard deviation of the input's channels, where the target is the input."""
    spec = record.get("spec") or {}
    backbone = spec.get("backbone")
    if target not in ("input", *([] if backbone else list(spec.get("nodes") or {})[:1])):
        return None
    given = (backbone or {}).get("preprocess") or {}
    default: tuple[Any, Any] = (
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if backbone else ((0.0,), (1.0,))
    )
    pairs = zip(("mean", "std"), default, strict=True)
    mean, std = (np.asarray(given.get(name, value), np.float32).reshape(-1, 1, 1) for name, value in pairs)
    return mean, std


def png_uri(file: Path) -> str:
    """A PNG file as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"


def _uri(pixels: NDArray[Any]) -> str:
    """Pixels (height, width, 3) from 0 to 1 as a data URI; photographs compress as JPEG."""
    image = Image.fromarray((np.clip(np.nan_to_num(pixels), 0, 1) * 255).round().astype(np.uint8))
    if max(image.size) > WIDEST:
        image.thumbnail((WIDEST, WIDEST))
    buffer = io.BytesIO()
    small = max(image.size) <= 64
    if small:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=82)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(buffer.getvalue()).decode()}"
