"""What a difference between two arms is worth: over seeds and over images, with few seeds, in a family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcgraph.errors import Fault, InputError
from pcgraph.evaluation.statistics import Interval

LEVEL = 0.95
POWER = 0.8
FEWEST = 2.0
"""Images on which the arms are taken to differ at least, when it is judged how much images vary."""
SMALLEST = 1e-15
"""No p-value is told that is less."""


@dataclass(frozen=True)
class Difference:
    """Scores of one arm less those of another, as a mean over seeds and images that were drawn at random.

    A seed, an image and the two together each make a part of the difference: ``d = mean + seed + image +
    rest``, the crossed model of random effects (Searle, Casella, McCulloch, Variance Components, 1992,
    chapter 4). The variance of the mean is that of its three parts, which the mean squares tell.

    Attributes:
        value: The mean difference, in the scores' unit.
        seeds: How many seeds there were.
        images: How many images.
        from_images: Variance of ``value`` that images cause in whichever seed.
        from_both: Variance that seed and image cause together: other answers to this image, with this seed.
        from_seeds: Variance of the seeds' mean differences, over the seeds; ``from_both`` is in it.
        span: How far two scores can differ, and so the true difference at most: 1 for right answers.
    """

    value: float
    seeds: int
    images: int
    from_images: float
    from_both: float
    from_seeds: float
    span: float = 1.0

    @property
    def over_seeds(self) -> bool:
        """Whether it speaks of other seeds, too; with one seed it speaks only of other images."""
        return self.seeds > 1

    @property
    def points(self) -> float:
        """The difference in percentage points."""
        return 100 * self.value

    @property
    def effect(self) -> float:
        """The paired effect size d_z: ``value`` over the standard deviation of the seeds' differences.

        NaN where seeds do not differ, or there is one.
        """
        deviation = math.sqrt(self.from_seeds * self.seeds)
        return self.value / deviation if deviation else math.nan

    def margin(self, alpha: float) -> float:
        """Half the width of the interval that misses the true difference in a share ``alpha`` of all studies.

        ``margin² = t_I² from_images + max(t_I² from_both, t_S² from_seeds)``, with the two-sided critical
        values of Student's t with images - 1 and seeds - 1 degrees of freedom: margins of independent
        parts, added as squares (Zou and Donner, Stat. Med. 27, 2008). With normal parts and many images it
        misses no more often than that, whatever the ratio of the variances (docs/study_statistics.md).
        """
        over_images = critical(alpha, self.images - 1)
        seeds = over_images * math.sqrt(self.from_both)
        if self.over_seeds and self.from_seeds:
            over_seeds = critical(alpha, self.seeds - 1)
            seeds = max(seeds, over_seeds * math.sqrt(self.from_seeds))
        return math.hypot(over_images * math.sqrt(self.from_images), seeds)

    def interval(self, level: float = LEVEL, comparisons: int = 1) -> Interval:
        """The interval that holds the true difference in a share ``level`` of all studies.

        It ends where differences do, at ``span``: what is cut off cannot be true, so it holds as often.

        Args:
            level: The share, for one difference or for a whole family.
            comparisons: How many differences the family has. In a share ``level`` of all studies the
                intervals of all of them hold (Bonferroni).

        Raises:
            InputError: No such level, or no comparison.
        """
        margin = self.margin(_alpha(level, comparisons))
        low, high = max(self.value - margin, -self.span), min(self.value + margin, self.span)
        return Interval(self.value, low, high)

    def p_value(self, true: float = 0.0) -> float:
        """Two-sided p of the hypothesis that the difference is ``true``.

        It is the least alpha whose interval leaves ``true`` out.
        """
        from scipy.optimize import brentq

        distance = abs(self.value - true)
        if distance <= self.margin(1.0):
            return 1.0
        if self.margin(SMALLEST) <= distance:
            return SMALLEST
        log = brentq(lambda log: self.margin(math.exp(log)) - distance, math.log(SMALLEST), 0.0, xtol=1e-12)
        return math.exp(log)

    def equivalence(self, margin: float) -> float:
        """The p of two one-sided tests: at most alpha where the arms are equal within ``margin``.

        The hypothesis that is given up is that they differ by ``margin`` or more (Schuirmann, J.
        Pharmacokin. Biopharm. 15, 1987). At most 0.05 where the interval of level 0.9 lies within.

        Raises:
            InputError: The margin is not positive.
        """
        if not margin > 0:
            raise InputError(Fault(f"an equivalence margin of {margin}; expected more than 0"))
        inside = abs(self.value) < margin
        p = self.p_value(math.copysign(margin, self.value)) / 2
        return p if inside else 1 - p

    def detectable(
        self,
        *,
        seeds: int | None = None,
        images: int | None = None,
        power: float = POWER,
        level: float = LEVEL,
        comparisons: int = 1,
    ) -> float:
        """The smallest true difference that a study with the variances found here finds with ``power``.

        To find it is to have an interval without zero. More than the scores can differ: it finds none.

        Args:
            seeds: Of the study; as many as here.
            images: Of the study; as many as here.
            power: How probable finding it is.
            level: Of the intervals.
            comparisons: How many differences share that level.

        Raises:
            InputError: No such study, or one seed, which tells nothing of more of them.
        """
        from scipy.optimize import brentq

        alpha = _alpha(level, comparisons)
        if not alpha < power < 1:
            raise InputError(Fault(f"a power of {power}; expected more than {alpha:g} and less than 1"))
        images = self.images if images is None else images
        design = self._planned(self.seeds if seeds is None else seeds, images)
        chances = _Chances(design, alpha)
        largest = float(chances.margins.max()) + 10 * chances.deviation
        return float(brentq(lambda true: chances.found(true) - power, 0.0, largest, xtol=1e-10))

    def _planned(self, seeds: int, images: int) -> Difference:
        """The same variances in a study of another size; ``from_seeds`` is what is expected of it."""
        if seeds < 1 or images < 2:
            message = f"a study with {seeds} seeds and {images} images; expected 1 and 2, or more"
            raise InputError(Fault(message))
        if seeds > 1 and not self.over_seeds:
            message = f"one seed tells nothing of a study with {seeds}"
            raise InputError(Fault(message, hint="Measure at least two seeds first."))
        fewer_images, fewer_seeds = self.images / images, self.seeds / seeds
        both = self.from_both * fewer_images * fewer_seeds
        own = max(self.from_seeds - self.from_both, 0.0) * fewer_seeds
        of_images = self.from_images * fewer_images
        return Difference(self.value, seeds, images, of_images, both, own + both, self.span)


class _Chances:
    """How often a design finds a difference: its margin varies as it sees few seeds."""

    def __init__(self, design: Difference, alpha: float) -> None:
        self.deviation = math.sqrt(design.from_images + max(design.from_seeds, design.from_both))
        seen = [float(share) * design.from_seeds for share in _shares(design.seeds)]
        self.margins = np.array([replace(design, from_seeds=one).margin(alpha) for one in seen])

    def found(self, true: float) -> float:
        """The probability of an interval without zero."""
        from scipy.special import ndtr

        ends = np.array([[true], [-true]]) - self.margins
        return float(ndtr(ends / self.deviation).sum(axis=0).mean())


def difference(first: ArrayLike, second: ArrayLike, *, span: float = 1.0) -> Difference:
    """The scores of one arm less those of another; the same seeds, images and noise draws in both.

    Score an image once for each seed: 1 for a right answer, 0 for a wrong one, or the mean of these over
    conditions and noise draws. For a contrast of several arms, give the mean of their scores.

    Args:
        first: (seeds, images), or (seeds, images, ...): conditions and draws, over which the mean is taken.
        second: The same. An arm in which nothing is random may have one row for all seeds.
        span: How far two scores can differ: 1 for right answers.

    Raises:
        InputError: Shapes that do not fit, less than two images, scores that are not finite or differ by
            more than ``span``, or no scipy.
    """
    _need_scipy()
    by_image = _paired(first, second, span)
    seeds, images = by_image.shape
    squares = mean_squares(by_image)
    both = squares.rest / (seeds * images)
    # Where hardly any answer differs, images seem not to vary; the interval is then that of two images.
    at_least = FEWEST * (span / images) ** 2
    of_images = max(squares.images / (seeds * images), at_least)
    return Difference(
        value=float(by_image.mean()),
        seeds=seeds,
        images=images,
        from_images=max(of_images - both, 0.0),
        from_both=both,
        from_seeds=squares.seeds / (seeds * images),
        span=span,
    )


def critical(alpha: float, freedom: int) -> float:
    """What Student's t exceeds, up or down, with probability ``alpha``."""
    from scipy.special import stdtrit

    return -float(stdtrit(freedom, alpha / 2))


@dataclass(frozen=True)
class MeanSquares:
    """Of a table of seeds by images; zero where there is one seed, but for images."""

    seeds: float
    images: float
    rest: float


def mean_squares(table: NDArray[np.float64]) -> MeanSquares:
    """The mean squares of a two-way table with one value a cell, (seeds, images)."""
    seeds, images = table.shape
    of_images = table.mean(axis=0)
    moved = table - table[0]  # nothing is left, to the last bit, where all seeds are alike
    of_seeds = moved.mean(axis=1) - moved.mean()
    rest = moved - moved.mean(axis=0) - of_seeds[:, None]
    return MeanSquares(
        seeds=images * float((of_seeds**2).sum()) / max(seeds - 1, 1),
        images=seeds * float(((of_images - of_images.mean()) ** 2).sum()) / (images - 1),
        rest=float((rest**2).sum()) / max((seeds - 1) * (images - 1), 1),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of a family, corrected: the chance of any false discovery is at most alpha.

    Holm, Scand. J. Stat. 6, 1979. It finds all that the intervals for as many ``comparisons`` find, and may
    find a difference whose interval still touches zero.

    Raises:
        InputError: One of them is no probability.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise InputError(Fault(f"p-values {list(p_values)}; expected numbers from 0 to 1"))
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    corrected, largest = [0.0] * len(order), 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[at]))
        corrected[at] = largest
    return corrected


def _paired(first: ArrayLike, second: ArrayLike, span: float) -> NDArray[np.float64]:
    """The differences, (seeds, images)."""
    one, other = (np.asarray(scores, dtype=np.float64) for scores in (first, second))
    if not _fit(one.shape, other.shape):
        message = f"scores of shapes {one.shape} and {other.shape}"
        hint = "Give (seeds, images) of both arms: the same seeds, and the same two images or more."
        raise InputError(Fault(message, hint=hint))
    with np.errstate(invalid="ignore"):
        apart = one - other
    if not np.abs(apart).max() <= span:
        message = f"scores that differ by {np.abs(apart).max():g}; expected at most span={span:g}"
        raise InputError(Fault(message, hint="Say in span how far two scores can differ."))
    rows: NDArray[np.float64] = apart.reshape(*apart.shape[:2], -1).mean(axis=2)
    return rows


def _fit(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether there are the same images and seeds, or one row for all seeds."""
    if len(one) < 2 or one[1:] != other[1:] or one[1] < 2 or 0 in one + other:
        return False
    return one[0] == other[0] or 1 in (one[0], other[0])


def _alpha(level: float, comparisons: int) -> float:
    """What is left to each of several comparisons."""
    if not (0 < level < 1 and comparisons >= 1):
        message = f"a level of {level} for {comparisons} comparisons"
        raise InputError(
            Fault(message, hint="Give a level between 0 and 1, such as 0.95, and a number from 1.")
        )
    return (1 - level) / comparisons


def _shares(seeds: int, points: int = 400) -> NDArray[np.float64]:
    """Equally probable shares of what is expected of it that a variance over seeds is found to have."""
    from scipy.stats import chi2

    if seeds == 1:
        return np.ones(1)
    quantiles: NDArray[np.float64] = chi2.ppf((np.arange(points) + 0.5) / points, seeds - 1) / (seeds - 1)
    return quantiles


def _need_scipy() -> None:
    try:
        import scipy  # noqa: F401
    except ModuleNotFoundError:
        message = "the statistics of studies need scipy, which is not installed"
        raise InputError(Fault(message, hint="pip install 'pcgraph[study]'")) from None
