"""Image files to batches of network inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from pcgraph.datasets.finding import images_below
from pcgraph.datasets.formats import FORMATS, SUFFIXES
from pcgraph.datasets.noise import PIXEL_NOISES, Noise, add_gaussian, mixed_seed
from pcgraph.errors import Fault, InputError, closest
from pcgraph.files.kinds import instead_of_file
from pcgraph.files.shipped import photo, photos
from pcgraph.spec import Preprocess

DATA_SETS = ("photos",)
"""Data sets that come with pcgraph: ``photos`` are its photographs; ``photos:NAME`` is one of them."""
PIXELS = Preprocess(mean=(0.0,), std=(1.0,))
"""Plain pixels, from 0 to 1."""


def find_images(references: Iterable[str]) -> list[Path]:
    """The image files that a user means.

    Args:
        references: Files; folders, of which all images are taken, sorted by name, those in folders
            inside included; ``photos``, or ``photos:NAME``.

    Raises:
        InputError: There is no such file or data set, or a folder holds no image.
    """
    found: list[Path] = []
    for reference in references:
        path = Path(reference).expanduser()
        if path.is_dir():
            inside = sorted(images_below(path))
            if not inside:
                hint = f"An image ends in {', '.join(SUFFIXES)}."
                raise InputError(Fault("this folder holds no image", hint=hint, where=reference))
            found += inside
        elif path.exists() or path.is_symlink():
            check_regular(path)
            found.append(path)
        elif reference == "photos":
            found += [photo(name) for name in photos()]
        elif reference.startswith("photos:"):
            found.append(photo(reference.removeprefix("photos:")))
        else:
            near = [str(file) for file in path.parent.glob("*")] if path.parent.is_dir() else []
            hint = closest(reference, [*DATA_SETS, *near])
            hint = hint if hint.startswith("Did") else "Give image files, folders of them, or 'photos'."
            raise InputError(Fault("no such file, folder or data set", hint=hint, where=reference))
    return found


def check_regular(path: Path) -> None:
    """Refuse a pipe, socket or device, which could be read for ever, and a link to nothing.

    Raises:
        InputError: It is one.
    """
    other = instead_of_file(path)
    if other and not path.is_dir():
        raise InputError(Fault(f"{other}, expected a file", where=str(path)))


def image_name(path: Path) -> str:
    """What an image is called in results: its path, or ``photos:NAME``."""
    shipped = path.stem in photos() and path == photo(path.stem)
    return f"photos:{path.stem}" if shipped else str(path)


def load_pixels(path: Path, shape: Sequence[int], preprocess: Preprocess) -> Tensor:
    """Read one image file as the pixels that a network sees: resized and cropped, not normalised.

    The shorter side is resized to ``preprocess.resize`` (antialiased) or to what just covers
    the crop, and the centre is cropped, as torchvision's and timm's evaluation transforms do. The
    camera's rotation (EXIF) is undone, transparent pixels are laid on white, CMYK and palettes become
    RGB, of an animation the first picture is taken, and 16-bit pixels keep their depth.

    Args:
        path: The file.
        shape: (channels, height, width) of the network's input; 1 channel is grey, 3 are RGB.
        preprocess: Its ``resize`` and ``interpolation``.

    Returns:
        Pixels from 0 to 1, of shape ``shape``, float32.

    Raises:
        InputError: The file is no readable image, or ``shape`` is no image's.
    """
    planes = load_planes(path, image_shape(shape)[0])
    return centre_crop(planes, shape, preprocess)


def load_planes(path: Path, channels: int) -> list[Image.Image]:
    """Read one image file as floating-point pictures (mode F, values from 0 to 1), one a channel.

    Args:
        path: The file.
        channels: 1 for grey, 3 for RGB.

    Raises:
        InputError: The file is no readable image.
    """
    check_regular(path)
    return read_planes(path, channels, str(path))


def read_planes(file: Path | BytesIO, channels: int, where: str) -> list[Image.Image]:
    """Read an image file, or its bytes, as `load_planes` does; ``where`` is for errors.

    Raises:
        InputError: It is no readable image.
    """
    try:
        with Image.open(file, formats=tuple(FORMATS)) as opened:
            opened.load()
            image = ImageOps.exif_transpose(opened)
            return to_planes(image, channels, where)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(Fault("no image file that can be read", where=where)) from None
    except Exception as error:  # decoders raise what they please on a broken file
        reason = str(error).strip() or type(error).__name__
        raise InputError(Fault(f"the image is broken: {reason}", where=where)) from None


def centre_crop(planes: Sequence[Image.Image], shape: Sequence[int], preprocess: Preprocess) -> Tensor:
    """Resize pictures of one size as ``preprocess`` says, and cut ``shape`` out of their centre."""
    _, height, width = image_shape(shape)
    old = planes[0].size
    scales = [(preprocess.resize or 1, min(old)), (width, old[0]), (height, old[1])]
    new, given = max(scales, key=lambda scale: scale[0] / scale[1])
    size = (max(width, old[0] * new // given), max(height, old[1] * new // given))  # as torchvision rounds
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    how = Image.Resampling[preprocess.interpolation.upper()]
    resized = [plane.resize(size, how) for plane in planes]
    return to_pixels([plane.crop((left, top, left + width, top + height)) for plane in resized])


def to_pixels(planes: Sequence[Image.Image]) -> Tensor:
    """Pictures of one size as a tensor (channels, height, width); what interpolation overshot is cut off."""
    return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes])).clamp_(0, 1)


def to_planes(image: Image.Image, channels: int, where: str) -> list[Image.Image]:
    """One floating-point picture (mode F) a channel, with values from 0 to 1; ``where`` is for errors."""
    if image.mode == "F" or image.mode.startswith("I"):
        depth = 1 if image.mode == "F" else 65535
        values = np.asarray(image, dtype=np.float32) / np.float32(depth)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            message = (
                f"values from {values.min() * depth:g} to {values.max() * depth:g}, expected 0 to {depth}"
            )
            raise InputError(Fault(message, hint="Convert the image to 8 or 16 bits.", where=where))
        return [Image.fromarray(values)] * channels
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    bands = image.convert("L" if channels == 1 else "RGB").split()
    return [band.convert("F").point(lambda value: value * (1 / 255)) for band in bands]


def image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """``shape`` as (channels, height, width).

    Raises:
        InputError: It is not an image's.
    """
    if len(shape) == 3 and shape[0] in (1, 3):
        return shape[0], shape[1], shape[2]
    shown = ", ".join(map(str, shape))
    raise InputError(
        Fault(
            f"the network's input has shape ({shown}), which no image has: expected (1 or 3, height, width)",
            hint="Give .npy, .npz or .safetensors files of such inputs, or 'random'.",
        )
    )


def normalise(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """Subtract the mean and divide by the standard deviation of each channel (dimension -3).

    A grey picture for values that were given for RGB takes their averages.
    """
    mean, std = (values.to(pixels.device) for values in _statistics(preprocess, pixels.shape[-3]))
    return (pixels - mean) / std


def denormalise(values: Tensor, preprocess: Preprocess) -> Tensor:
    """Undo `normalise`."""
    mean, std = (statistic.to(values.device) for statistic in _statistics(preprocess, values.shape[-3]))
    return values * std + mean


@lru_cache(maxsize=16)
def _statistics(preprocess: Preprocess, channels: int) -> tuple[Tensor, Tensor]:
    statistics = []
    for values in (torch.tensor(preprocess.mean), torch.tensor(preprocess.std)):
        if channels == 1:
            values = values.mean().reshape(1)
        statistics.append(values.reshape(-1, 1, 1))
    return statistics[0], statistics[1]


def load_images(
    paths: Sequence[Path],
    preprocess: Preprocess,
    input_shape: Sequence[int],
    *,
    batch: int = 16,
    noise: Noise | None = None,
    seed: int = 0,
) -> Iterator[tuple[list[str], Tensor]]:
    """Read image files, a batch at a time, as a network wants them.

    Args:
        paths: The files.
        preprocess: How to resize and normalise.
        input_shape: (channels, height, width) of the network's input.
        batch: Images in a batch; the last one may be smaller.
        noise: Noise to put on every image. It depends on the seed and the image's place in ``paths``
            alone, not on the batch.
        seed: Seed of the noise.

    Yields:
        The names (see `image_name`) and their images (batch, channels, height, width), float32.

    Raises:
        InputError: A file is no readable image (says which), or the input is no image's.
    """
    for start in range(0, len(paths), batch):
        chosen = paths[start : start + batch]
        images = []
        for place, path in enumerate(chosen, start):
            generator = torch.Generator().manual_seed(mixed_seed(seed, place))
            pixels = load_pixels(path, input_shape, preprocess)
            if noise is not None and noise.kind in PIXEL_NOISES:
                pixels = PIXEL_NOISES[noise.kind](pixels, noise.level, generator)
            image = normalise(pixels, preprocess)
            if noise is not None and noise.kind == "gaussian":
                image = add_gaussian(image, noise.level, generator)
            images.append(image)
        yield [image_name(path) for path in chosen], torch.stack(images)
