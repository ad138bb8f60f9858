"""Means over images with bootstrap intervals, and the corruption error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcgraph.evaluation.corruptions import BENCHMARK, SEVERITIES

Numbers = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 2000
LASTING = 0.02
"""How far accuracy may fall below its best step before we say that the dynamics do not last."""

ALEXNET = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""AlexNet's error in each corruption, averaged over the five severities, as the authors of ImageNet-C
give it for the mean corruption error."""


@dataclass(frozen=True)
class Interval:
    """An estimate with the interval that holds the true value in 95 of 100 such experiments."""

    value: float
    low: float
    high: float


class Bootstrap:
    """Resampled means: of images, and of runs where there are several.

    Every run is taken to have seen the same images, such as seeds of a training that are tested on one
    test set. So runs and images are drawn with replacement independently of each other, and a drawn image
    is drawn in every run (the pigeonhole bootstrap: Owen, Ann. Appl. Stat. 1, 2007). All quantities
    that one instance resamples share their draws, so differences between them are paired.

    Args:
        images: How many images there are.
        runs: How many runs.
        seed: Of the draws.
        resamples: How many draws.
    """

    def __init__(self, images: int, runs: int = 1, seed: int = 0, resamples: int = RESAMPLES) -> None:
        generator = np.random.default_rng(seed)
        self.images, self.runs = images, runs
        self._images = _counts(generator, resamples, images)
        self._runs = _counts(generator, resamples, runs)

    def means(self, values: ArrayLike) -> Numbers:
        """The mean over images and runs, and what it is in each resample.

        Args:
            values: (runs, images, *shape).

        Returns:
            (1 + resamples, *shape): the plain mean first.
        """
        array = np.asarray(values, dtype=np.float64)
        if array.shape[:2] != (self.runs, self.images):
            raise ValueError(f"values of shape {array.shape}; expected ({self.runs}, {self.images}, ...)")
        flat = array.reshape(self.runs, self.images, -1)
        resampled = np.zeros((len(self._images), flat.shape[2]))
        for run, rows in enumerate(flat):
            weights = self._runs[:, run : run + 1] / self.runs
            for first in range(0, len(self._images), 256):  # 50,000 images would fill the memory at once
                part = slice(first, first + 256)
                drawn = self._images[part].astype(np.float64) @ rows / self.images
                resampled[part] += weights[part] * drawn
        found = np.concatenate([flat.mean(axis=(0, 1))[None], resampled])
        return found.reshape(len(found), *array.shape[2:])


def interval(means: Numbers, confidence: float = CONFIDENCE) -> Interval:
    """The percentile interval (Efron, 1979) of a quantity whose estimate comes first, then its resamples."""
    drawn = means[1:][np.isfinite(means[1:])]
    if not len(drawn):
        return Interval(float(means[0]), float("nan"), float("nan"))
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(means[0]), float(low), float(high))


def _counts(generator: np.random.Generator, resamples: int, items: int) -> NDArray[np.uint16]:
    """How often each item is drawn in each resample: (resamples, items)."""
    counts = np.empty((resamples, items), dtype=np.uint16)
    for row in counts:
        row[:] = np.bincount(generator.integers(items, size=items), minlength=items)
    return counts


def corruption_errors(
    errors: Mapping[tuple[str, int], Numbers], relative_to: Mapping[str, ArrayLike]
) -> dict[str, Numbers]:
    """The corruption error CE of each corruption (Hendrycks and Dietterich, 2019, section 4.2).

    ``CE_c = sum over s of E_{s,c} / sum over s of E'_{s,c}``, with E the error (1 - accuracy) at severity s
    and E' that of the reference at the same severities.

    Args:
        errors: By corruption and severity, any shape.
        relative_to: By corruption, the reference's error averaged over those severities; broadcast.
    """
    names = list(dict.fromkeys(name for name, _ in errors))
    found = {}
    for name in names:
        if name in relative_to:
            mean = np.mean([values for (other, _), values in errors.items() if other == name], axis=0)
            with np.errstate(divide="ignore", invalid="ignore"):
                found[name] = mean / np.asarray(relative_to[name])
    return found


def mean_corruption_error(by_corruption: Mapping[str, Numbers]) -> Numbers | None:
    """The mCE: the mean of CE over the 15 corruptions of the benchmark; None if one of them is missing."""
    if not set(BENCHMARK) <= set(by_corruption):
        return None
    mean: Numbers = np.mean([by_corruption[name] for name in BENCHMARK], axis=0)
    return mean


def all_severities(errors: Mapping[tuple[str, int], Numbers], name: str) -> bool:
    """Whether a corruption was measured at all five severities, as AlexNet was."""
    return all((name, severity) in errors for severity in SEVERITIES)


@dataclass(frozen=True)
class Fall:
    """Accuracy that does not last.

    Attributes:
        best: The step where it is best.
        worst: The later step where it is worst.
        loss: How much is lost between them.
    """

    best: int
    worst: int
    loss: float


def fall(accuracy: Sequence[float]) -> Fall | None:
    """Whether accuracy falls by more than `LASTING` after its best step; None if it does not."""
    best = int(np.argmax(accuracy))
    worst = best + int(np.argmin(accuracy[best:]))
    loss = float(accuracy[best] - accuracy[worst])
    return Fall(best, worst, loss) if loss > LASTING + 1e-9 else None
