"""Noise and corruptions: what they do to an image, and that they depend on that image alone."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom
from skimage import color

import pcgraph as pcg
from pcgraph.datasets import ImageData
from pcgraph.datasets.noise import PIXEL_NOISES, Noise, mixed_seed
from pcgraph.errors import InputError
from pcgraph.evaluation.conditions import (
    Clean,
    Condition,
    Corrupted,
    Noisy,
    parse_corruptions,
    parse_noise,
    parse_severities,
)
from pcgraph.evaluation.corruptions import BENCHMARK, CORRUPTIONS, Pixels, corrupt
from pcgraph.files.shipped import photo
from tests.evaluation.conftest import PREPROCESS, pictures


def clean(network: pcg.PCNetwork, data: ImageData, indices: list[int], seed: int = 5) -> Clean:
    items = [data.item(index) for index in indices]
    return Clean(
        torch.stack([item.image for item in items]),
        torch.tensor([item.label for item in items]),
        torch.tensor(indices),
        torch.zeros(1, len(indices), dtype=torch.int64),
        pcg.Scheduler(network),
        PREPROCESS,
        seed,
    )


NOISES: list[Condition] = [
    Noisy(Noise("gaussian", 0.5)),
    Noisy(Noise("salt_pepper", 0.2)),
    Noisy(Noise("low_frequency", 0.3)),
    Noisy(Noise("occlusion", 0.3)),
    Noisy(Noise("stripes", 0.3)),
    Corrupted("shot_noise", 3),
    Corrupted("glass_blur", 2),
    Corrupted("impulse_noise", 2),
]


@pytest.mark.parametrize("condition", NOISES, ids=lambda one: one.noise)
def test_noise_depends_on_seed_and_place_alone(network: pcg.PCNetwork, condition: Condition) -> None:
    data = pictures(4, size=32)
    together = condition.inputs(clean(network, data, [0, 1, 2, 3]))
    np.random.seed(99)  # what the global generators hold must not matter
    torch.manual_seed(99)
    alone = torch.cat([condition.inputs(clean(network, data, [index])) for index in (3, 2, 1, 0)]).flip(0)
    assert together.equal(alone)
    assert not together.equal(condition.inputs(clean(network, data, [0, 1, 2, 3], seed=6)))
    assert not together[0].equal(together[1])


@pytest.mark.parametrize("noise", [Noise("blur", 1.5), Noise("low_contrast", 0.6), Noise("stripes", 0.2)])
def test_noise_is_put_on_pixels_before_they_are_normalised(network: pcg.PCNetwork, noise: Noise) -> None:
    base = clean(network, pictures(3), [0, 1, 2])
    mean, std = (torch.tensor(one).view(-1, 1, 1) for one in (PREPROCESS.mean, PREPROCESS.std))
    draws = [torch.Generator().manual_seed(mixed_seed(5, place)) for place in range(3)]
    pixels = [
        PIXEL_NOISES[noise.kind](image * std + mean, noise.level, draw)
        for image, draw in zip(base.images, draws, strict=True)
    ]
    torch.testing.assert_close(Noisy(noise).inputs(base), (torch.stack(pixels) - mean) / std)


def test_corrupting_leaves_numpys_global_generator_as_it_was() -> None:
    np.random.seed(4)
    expected = np.random.rand(3)
    np.random.seed(4)
    corrupt(np.zeros((32, 32, 3), dtype=np.uint8), "gaussian_noise", 1, 0, 0)
    assert np.random.rand(3).tolist() == expected.tolist()


def test_gaussian_noise_has_its_level_and_is_one_draw_scaled(network: pcg.PCNetwork) -> None:
    base = clean(network, pictures(30), list(range(30)))
    weak, strong = (Noisy(Noise("gaussian", s)).inputs(base) - base.images for s in (0.5, 2.0))
    assert weak.std().item() == pytest.approx(0.5, rel=0.02)
    assert torch.allclose(4 * weak, strong, atol=1e-5)


def test_salt_and_pepper_turns_whole_pixels(network: pcg.PCNetwork) -> None:
    base = clean(network, pictures(30), list(range(30)))
    noisy = Noisy(Noise("salt_pepper", 0.3)).inputs(base)
    changed = ((noisy - base.images).abs() > 1e-4).any(dim=1)
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.02)
    mean, std = torch.tensor(PREPROCESS.mean), torch.tensor(PREPROCESS.std)
    values = noisy.permute(0, 2, 3, 1)[changed] * std + mean
    black = (values.abs() < 1e-4).all(dim=1)
    white = ((values - 1).abs() < 1e-4).all(dim=1)
    assert (black | white).all()
    assert black.float().mean().item() == pytest.approx(0.5, abs=0.05)


# ---- against the definitions that were published (Hendrycks and Dietterich, 2019) -------------------


@pytest.fixture(scope="module")
def crop() -> Pixels:
    with Image.open(photo("chelsea")) as file:
        return np.asarray(file.convert("RGB").resize((300, 256)).crop((38, 16, 262, 240)))


def blurred_disc(radius: int, sigma: float) -> np.ndarray:
    half = max(8, radius)
    axis = np.arange(-half, half + 1)
    disc = ((axis[:, None] ** 2 + axis**2) <= radius**2).astype(np.float32)
    size = (3, 3) if radius <= 8 else (5, 5)
    return cv2.GaussianBlur(disc / disc.sum(), size, sigmaX=sigma)


def zoomed(image: np.ndarray, factors: np.ndarray) -> np.ndarray:
    total = image.copy()
    for factor in factors:
        inner = int(np.ceil(224 / factor))
        first = (224 - inner) // 2
        part = image[first : first + inner, first : first + inner]
        larger = zoom(part, (factor, factor, 1), order=1)
        cut = (len(larger) - 224) // 2
        total += larger[cut : cut + 224, cut : cut + 224]
    return total / (len(factors) + 1)


def in_hsv(image: np.ndarray, channel: int, scale: float, offset: float) -> np.ndarray:
    hsv = color.rgb2hsv(image)
    hsv[..., channel] = np.clip(hsv[..., channel] * scale + offset, 0, 1)
    return color.hsv2rgb(hsv)


def published(name: str, severity: int, pixels: Pixels) -> np.ndarray:
    """The published definition, written from its description; values from 0 to 1, or 8 bits."""
    at = severity - 1
    x = pixels / 255
    match name:
        case "gaussian_noise":
            return x + np.random.normal(size=x.shape, scale=[0.08, 0.12, 0.18, 0.26, 0.38][at])
        case "shot_noise":
            photons = [60, 25, 12, 5, 3][at]
            return np.random.poisson(x * photons) / photons
        case "speckle_noise":
            return x + x * np.random.normal(size=x.shape, scale=[0.15, 0.2, 0.35, 0.45, 0.6][at])
        case "gaussian_blur":
            sigma = [1, 2, 3, 4, 6][at]
            return np.stack([gaussian_filter(x[..., c], sigma, mode="nearest") for c in range(3)], axis=-1)
        case "defocus_blur":
            kernel = blurred_disc(*[(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)][at])
            return cv2.filter2D(x, -1, kernel)
        case "zoom_blur":
            last, step = [(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)][at]
            return zoomed(x.astype(np.float32), np.arange(1, last, step))
        case "contrast":
            mean = x.mean(axis=(0, 1))
            return (x - mean) * [0.4, 0.3, 0.2, 0.1, 0.05][at] + mean
        case "brightness":
            return in_hsv(x, 2, 1, [0.1, 0.2, 0.3, 0.4, 0.5][at])
        case "saturate":
            return in_hsv(x, 1, *[(0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)][at])
        case "jpeg_compression":
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "JPEG", quality=[25, 18, 15, 10, 7][at])
            return np.asarray(Image.open(file))
        case "pixelate":
            small = int(224 * [0.6, 0.5, 0.4, 0.3, 0.25][at])
            box = Image.Resampling.BOX
            return np.asarray(Image.fromarray(pixels).resize((small, small), box).resize((224, 224), box))
    raise ValueError(name)


AGREEING = (
    *("gaussian_noise", "shot_noise", "speckle_noise"),
    *("gaussian_blur", "defocus_blur", "zoom_blur"),
    *("contrast", "brightness", "saturate", "jpeg_compression", "pixelate"),
)


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("name", AGREEING)
def test_corruptions_are_those_that_were_published(crop: Pixels, name: str, severity: int) -> None:
    from imagecorruptions import corrupt as library

    np.random.seed(8)
    found = library(crop, severity, name)
    np.random.seed(8)
    expected = published(name, severity, crop)
    if expected.dtype != np.uint8:
        expected = np.uint8(np.clip(expected, 0, 1) * 255)
    difference = np.abs(found.astype(int) - expected)  # the order of float32 sums may turn a rounding
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001


@pytest.mark.parametrize(("severity", "share"), [(1, 0.03), (5, 0.27)])
def test_impulse_noise_turns_the_published_share_of_values(severity: int, share: float) -> None:
    grey = np.full((224, 224, 3), 100, dtype=np.uint8)
    found = corrupt(grey, "impulse_noise", severity, 0, 0)
    assert (found == 0).mean() == pytest.approx(share / 2, rel=0.1)
    assert (found == 255).mean() == pytest.approx(share / 2, rel=0.1)
    assert ((found == 0) | (found == 100) | (found == 255)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_runs_and_grows(crop: Pixels, name: str) -> None:
    far = [
        np.abs(corrupt(crop, name, severity, 1, 2).astype(float) - crop).mean() for severity in range(1, 6)
    ]
    assert far[0] > 0.5
    assert far[4] > far[0]
    again = corrupt(crop, name, 5, 1, 2)
    assert np.array_equal(again, corrupt(crop, name, 5, 1, 2))


def test_grey_images_stay_grey(crop: Pixels) -> None:
    grey = crop[..., :1]
    assert corrupt(grey, "gaussian_noise", 1, 0, 0).shape == grey.shape


def test_small_images_are_refused() -> None:
    with pytest.raises(InputError, match="at least 32 x 32 pixels; the images have 28 x 28"):
        corrupt(np.zeros((28, 28, 1), dtype=np.uint8), "fog", 1, 0, 0)


# ---- what a user writes -----------------------------------------------------------------------------


def test_parsing() -> None:
    assert [(n.noise, n.level) for n in parse_noise("gaussian:0.25,1")] == [
        ("gaussian", 0.25),
        ("gaussian", 1),
    ]
    assert parse_corruptions("benchmark") == list(BENCHMARK)
    assert parse_corruptions("all,fog") == list(CORRUPTIONS)
    assert parse_severities("1,5") == [1, 5]
    assert len(CORRUPTIONS) == 19


def test_no_noise_is_called_as_a_corruption_is() -> None:
    assert not set(PIXEL_NOISES).intersection(CORRUPTIONS)


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_noise, "gaussian:a", "expected a number"),
        (parse_noise, "gausian:1", "Did you mean 'gaussian'"),
        (parse_noise, "salt_pepper:2", "expected a share"),
        (parse_noise, "occlusion:0.5,1.5", "expected a share"),
        (parse_noise, "blur:-1", "expected a number from 0 to 64"),
        (parse_noise, "occlussion:0.5", "Did you mean 'occlusion'"),
        (parse_corruptions, "fgo", "Did you mean 'fog'"),
        (parse_severities, "0", "whole numbers from 1 to 5, got 0"),
        (parse_severities, "1.5", "got 1.5"),
        (parse_severities, "x", "expected numbers"),
    ],
)
def test_faults(parse: object, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(text)  # type: ignore[operator]
