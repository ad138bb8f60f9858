"""Differences between arms: against scipy, slow loops, closed testing, and studies whose truth is known."""

from __future__ import annotations

import itertools
import math
import sys
from dataclasses import astuple, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from pcgraph.errors import InputError
from pcgraph.study.statistics import SMALLEST, Difference, difference, holm, mean_squares

Numbers = NDArray[np.float64]
Spread = tuple[float, float, float]
"""Standard deviations of what seeds, images and both make of a difference."""


def normal(generator: np.random.Generator, seeds: int, images: int, spread: Spread) -> Numbers:
    """Differences of mean zero, (seeds, images)."""
    of_seeds, of_images, of_both = spread
    return (
        of_seeds * generator.standard_normal((seeds, 1))
        + of_images * generator.standard_normal(images)
        + of_both * generator.standard_normal((seeds, images))
    )


def answers(generator: np.random.Generator, seeds: int, images: int, seed: float, better: float) -> Numbers:
    """Right answers of two arms, (2, seeds, images), from latent values; seeds move each by itself."""
    latent = 1.5 + 1.5 * generator.standard_normal(images)
    latent = latent + seed * generator.standard_normal((2, seeds, 1))
    latent = latent + 0.5 * generator.standard_normal((2, 1, images))
    latent = latent + np.array([better, 0.0])[:, None, None]
    right: Numbers = (latent + generator.logistic(size=(2, seeds, images)) > 0).astype(np.float64)
    return right


def found(scores: Numbers) -> Difference:
    return difference(scores, np.zeros_like(scores), span=float(np.abs(scores).max()))


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


# ---- against others ------------------------------------------------------------------------------


@pytest.mark.parametrize(("seeds", "images"), [(2, 3), (3, 7), (5, 4)])
def test_the_mean_squares_are_those_of_a_slow_loop(
    generator: np.random.Generator, seeds: int, images: int
) -> None:
    scores = normal(generator, seeds, images, (1, 1, 1))
    mean = scores.sum() / scores.size
    rows = [sum(scores[s]) / images for s in range(seeds)]
    columns = [sum(scores[:, i]) / seeds for i in range(images)]
    cells = itertools.product(range(seeds), range(images))
    rest = sum((scores[s, i] - rows[s] - columns[i] + mean) ** 2 for s, i in cells)
    squares = mean_squares(scores)
    assert squares.seeds == pytest.approx(images * sum((one - mean) ** 2 for one in rows) / (seeds - 1))
    assert squares.images == pytest.approx(seeds * sum((one - mean) ** 2 for one in columns) / (images - 1))
    assert squares.rest == pytest.approx(rest / (seeds - 1) / (images - 1))


def test_the_parts_are_those_of_the_model(generator: np.random.Generator) -> None:
    """Over many studies they average to what its variances say."""
    seeds, images = 4, 60
    studies = [found(normal(generator, seeds, images, (0.5, 2.0, 1.5))) for _ in range(2000)]
    parts = np.mean([(one.from_images, one.from_both, one.from_seeds) for one in studies], axis=0)
    both = 1.5**2 / (seeds * images)
    assert parts == pytest.approx([2.0**2 / images, both, 0.5**2 / seeds + both], rel=0.05)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99375])
def test_where_seeds_are_all_alike_it_is_the_t_test_over_images(
    generator: np.random.Generator, level: float
) -> None:
    """Nothing is random in either arm: more rows of the same say no more."""
    one = generator.standard_normal(40) + 0.2
    test = stats.ttest_1samp(one, 0)
    expected = test.confidence_interval(level)
    for rows in (1, 2, 5):
        arm = found(np.tile(one, (rows, 1)))
        shown = arm.interval(level)
        assert (shown.value, shown.low, shown.high) == pytest.approx((one.mean(), *expected))
        assert arm.p_value() == pytest.approx(test.pvalue)
        assert arm.over_seeds == (rows > 1)
        assert math.isnan(arm.effect)


@pytest.mark.parametrize("seeds", [2, 5, 10])
def test_where_images_are_all_alike_it_is_the_paired_t_test_over_seeds(
    generator: np.random.Generator, seeds: int
) -> None:
    first, second = generator.random((2, seeds))
    test = stats.ttest_rel(first, second)
    expected = test.confidence_interval(0.95)
    ones = np.ones(100_000)  # so many that the two images that always count do not matter
    arm = difference(np.outer(first, ones), np.outer(second, ones))
    shown = arm.interval()
    ends = np.clip([expected.low, expected.high], -1, 1)  # which no difference of two scores leaves
    assert (shown.low, shown.high) == pytest.approx(tuple(ends), rel=1e-6)
    assert arm.p_value() == pytest.approx(test.pvalue, rel=1e-6)
    assert arm.effect == pytest.approx(test.statistic / math.sqrt(seeds))  # d_z = t / sqrt(n)
    assert arm.points == pytest.approx(100 * (first - second).mean())


def test_with_seeds_and_images_it_is_wider_than_either_test(generator: np.random.Generator) -> None:
    for spread in [(0.1, 1, 1), (1, 1, 1), (0.3, 0, 1)]:
        scores = normal(generator, 5, 50, spread)
        width = found(scores).margin(0.05)
        for means in (scores.mean(axis=0), scores.mean(axis=1)):
            assert width > np.ptp(stats.ttest_1samp(means, 0).confidence_interval(0.95)) / 2 * 0.999


def test_seeds_that_agree_by_chance_make_nothing_sure(generator: np.random.Generator) -> None:
    """Both seeds have the same accuracy, or nearly: it is never surer than over images alone."""
    one = generator.choice([-1.0, 0.0, 0.0, 1.0], 60)
    for moved in (0, 1):
        scores = np.stack([one, generator.permutation(one)])
        scores[1, np.flatnonzero(scores[1] == 0)[:moved]] = 1
        arm, test = found(scores), stats.ttest_1samp(scores.mean(axis=0), 0)
        assert abs(scores[0].sum() - scores[1].sum()) == moved
        for level in (0.5, 0.95, 0.999):
            assert arm.margin(1 - level) >= np.ptp(test.confidence_interval(level)) / 2 * 0.9999


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_holm_is_the_closure_of_bonferroni(generator: np.random.Generator, size: int) -> None:
    """A hypothesis falls where all sets that hold it fall, each by its least p times its size."""
    for p in [*generator.random((20, size)) ** 4, np.full(size, 0.01)]:
        sets = [s for n in range(1, size + 1) for s in itertools.combinations(range(size), n)]
        closed = [max(min(1, len(s) * min(p[list(s)])) for s in sets if at in s) for at in range(size)]
        assert holm(list(p)) == pytest.approx(closed)


def test_holm_finds_what_the_corrected_intervals_find(generator: np.random.Generator) -> None:
    for shift in np.linspace(0, 2, 20):
        arms = [difference(*answers(generator, 5, 60, 0.1, shift)) for _ in range(4)]
        apart = [arm.interval(comparisons=4).low > 0 or arm.interval(comparisons=4).high < 0 for arm in arms]
        corrected = [p <= 0.05 for p in holm([arm.p_value() for arm in arms])]
        assert any(apart) == any(corrected)
        assert all(p or not one for one, p in zip(apart, corrected, strict=True))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


# ---- what belongs together -----------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_p_values_and_intervals_agree(generator: np.random.Generator, seeds: int) -> None:
    first, second = answers(generator, seeds, 80, 0.2, 0.3)
    arm = replace(difference(first, second), span=math.inf)  # so that intervals end where p says
    for level in (0.5, 0.95, 1 - 1e-9):
        shown = arm.interval(level)
        assert arm.p_value(shown.low) == pytest.approx(1 - level, rel=1e-5)
        assert arm.p_value(shown.high) == pytest.approx(1 - level, rel=1e-5)
    assert arm.p_value(arm.value) == replace(arm, value=1e-25).p_value() == 1
    assert arm.p_value(1e200) == SMALLEST


@pytest.mark.parametrize("span", [1.0, 0.5, 3.0])
@pytest.mark.parametrize(("seeds", "comparisons"), [(1, 1), (2, 1), (2, 12), (5, 3)])
def test_intervals_end_where_differences_do(
    generator: np.random.Generator, seeds: int, comparisons: int, span: float
) -> None:
    """What is cut off cannot be true, and whether zero is left out is as before."""
    for better in (-3.0, 0.0, 0.3, 9.0):
        first, second = span * answers(generator, seeds, 12, 2.0, better)
        arm = difference(first, second, span=span)
        whole = replace(arm, span=math.inf).interval(comparisons=comparisons)
        shown = arm.interval(comparisons=comparisons)
        assert (shown.low, shown.high) == (max(whole.low, -span), min(whole.high, span))
        assert -span <= shown.low <= arm.value <= shown.high <= span
        assert (shown.low <= 0 <= shown.high) == (arm.p_value() >= 0.05 / comparisons)
    same = np.ones((seeds, 12))
    ends = difference(span * same, 0 * same, span=span).interval(comparisons=comparisons)
    assert ends.high == ends.value == span


def test_corrected_intervals_are_those_of_the_level_that_is_left() -> None:
    arm = Difference(0.1, 5, 100, 1e-4, 1e-5, 2e-4)
    one, other = arm.interval(0.95, comparisons=8), arm.interval(1 - 0.05 / 8)
    assert (one.low, one.high) == pytest.approx((other.low, other.high))
    assert arm.interval(0.95, comparisons=8).low < arm.interval(0.95).low


def test_equal_within_a_margin_where_the_interval_of_90_percent_lies_in_it() -> None:
    arm = Difference(-0.01, 5, 400, 1e-4, 1e-5, 2e-5)
    edge = -arm.interval(0.9).low
    assert arm.equivalence(edge * 1.001) < 0.05 < arm.equivalence(edge * 0.999)
    assert arm.equivalence(0.01) == pytest.approx(0.5)
    assert arm.equivalence(0.005) > 0.5
    assert replace(arm, value=0.01).equivalence(edge) == arm.equivalence(edge)
    for wrong in (0.0, -0.1, math.nan):
        with pytest.raises(InputError, match="margin"):
            arm.equivalence(wrong)


def test_the_order_of_arms_seeds_and_images_does_not_matter(generator: np.random.Generator) -> None:
    first, second = answers(generator, 4, 50, 0.3, 0.5)
    arm, turned = difference(first, second), difference(second, first)
    assert turned == replace(arm, value=-arm.value)
    order = (generator.permutation(4)[:, None], generator.permutation(50))
    mixed = difference(first[order], second[order])
    assert (mixed.value, mixed.margin(0.05)) == pytest.approx((arm.value, arm.margin(0.05)))


def test_the_score_of_an_image_is_its_mean_over_conditions(generator: np.random.Generator) -> None:
    first, second = (generator.random((3, 20, 2, 4)) for _ in range(2))
    arm, other = difference(first, second), difference(first.mean(axis=(2, 3)), second.mean(axis=(2, 3)))
    assert astuple(arm) == pytest.approx(astuple(other))


def test_an_arm_without_chance_may_have_one_row(generator: np.random.Generator) -> None:
    first, second = answers(generator, 3, 30, 0.3, 0.5)
    assert difference(first, second[:1]) == difference(first, np.tile(second[:1], (3, 1)))
    assert difference(first, second[:1]).seeds == 3


@pytest.mark.parametrize("seeds", [1, 5])
def test_arms_that_never_differ_are_not_taken_to_be_the_same(seeds: int) -> None:
    """Where none of n images differ, up to 3 in n may: 1 - 0.05 ** (1 / n), about 3 / n."""
    same = np.ones((seeds, 300))
    shown = difference(same, same).interval()
    assert shown.high == pytest.approx(1 - 0.05 ** (1 / 300), rel=0.1)
    assert difference(same, same).equivalence(0.001) > 0.05


# ---- studies whose truth is known ----------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.parametrize("alpha", [0.1, 0.05, 0.05 / 8])
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("of_images", [0, 1, 10, 100])
def test_intervals_hold_for_every_ratio_of_variances(seeds: int, of_images: float, alpha: float) -> None:
    """Many images, so that only the variance over seeds is left to chance, and is integrated over."""
    quantiles = stats.chi2.ppf((np.arange(2000) + 0.5) / 2000, seeds - 1) / (seeds - 1)
    for of_seeds in (0, 0.3, 1, 3, 10, 100, 1000):
        arm = Difference(0, seeds, 10**6, of_images, 1, 0)
        margins = np.array([replace(arm, from_seeds=one * (1 + of_seeds)).margin(alpha) for one in quantiles])
        missed = 2 * stats.norm.sf(margins / math.sqrt(of_images + 1 + of_seeds)).mean()
        assert missed <= alpha * 1.01
        if of_seeds == 1000 and not of_images:
            assert missed == pytest.approx(alpha, rel=0.05)


def miss(count: int, repeats: int, share: float) -> bool:
    """Whether so many of ``repeats`` would hardly come of a share like that, or a smaller one."""
    return bool(stats.binom.sf(count - 1, repeats, share) < 1e-3)


@pytest.mark.parametrize("seeds", [2, 5, 10])
@pytest.mark.parametrize("seed", [0.0, 0.1, 0.4])
def test_intervals_hold_in_simulated_studies(seeds: int, seed: float) -> None:
    generator, repeats = np.random.default_rng([seeds, int(10 * seed)]), 400
    arms = [difference(*answers(generator, seeds, 200, seed, 0.0)) for _ in range(repeats)]
    missed = sum(abs(arm.value) > arm.margin(0.05) for arm in arms)
    assert not miss(missed, repeats, 0.05)
    if seed == 0.4:  # seeds matter more than anything, and the t test over seeds is exact
        assert not miss(repeats - missed, repeats, 0.97)


@pytest.mark.heavy
@pytest.mark.parametrize("seeds", [2, 5])
def test_equal_arms_are_hardly_ever_told_apart(seeds: int) -> None:
    """Eight arms and a reference, all alike: in one of 20 families a false discovery, at most."""
    generator, repeats, families = np.random.default_rng(seeds), 300, 0
    for _ in range(repeats):
        hard = 1.5 * generator.standard_normal(100)
        latent = hard + 0.3 * generator.standard_normal((9, seeds, 1))
        reference, *arms = (latent + generator.logistic(size=(9, seeds, 100)) > 0).astype(float)
        found = [difference(arm, reference).interval(comparisons=8) for arm in arms]
        families += any(one.low > 0 or one.high < 0 for one in found)  # where Holm finds any at all
    assert not miss(families, repeats, 0.05)


@pytest.mark.parametrize(("seeds", "images"), [(3, 40), (5, 100), (10, 40)])
def test_what_is_detectable_is_found_as_often_as_said(seeds: int, images: int) -> None:
    generator, repeats, spread = np.random.default_rng(seeds), 1500, (0.3, 1.0, 1.0)
    variances = (spread[1] ** 2 / images, spread[2] ** 2 / (seeds * images), spread[0] ** 2 / seeds)
    design = Difference(0, seeds, images, variances[0], variances[1], variances[1] + variances[2])
    true = design.detectable(power=0.7, comparisons=2)
    arms = [found(true + normal(generator, seeds, images, spread)) for _ in range(repeats)]
    right = sum(arm.interval(comparisons=2).low > 0 for arm in arms)
    assert right / repeats == pytest.approx(0.7, abs=0.045)


def test_larger_studies_find_less() -> None:
    pilot = Difference(0.02, 3, 200, 2e-4, 1e-4, 5e-4)
    assert pilot.detectable() == pilot.detectable(seeds=3, images=200)
    assert pilot.detectable() > pilot.detectable(seeds=5) > pilot.detectable(seeds=5, images=1000)
    assert pilot.detectable(comparisons=8) > pilot.detectable() > pilot.detectable(power=0.5)
    of_one = Difference(0.02, 1, 200, 2e-4, 0, 0)
    t, normal_t = stats.t.isf(0.025, 199), stats.norm.isf(0.2)
    assert of_one.detectable() == pytest.approx((t + normal_t) * math.sqrt(2e-4), rel=1e-3)
    assert of_one.detectable(images=800) < of_one.detectable()
    with pytest.raises(InputError, match="one seed tells nothing of a study with 5"):
        of_one.detectable(seeds=5)
    for wrong in ({"seeds": 0}, {"images": 1}, {"power": 0.04}, {"power": 1.0}):
        with pytest.raises(InputError, match="expected"):
            pilot.detectable(**wrong)


# ---- what does not fit ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.ones((2, 5)), np.ones((3, 5)), "shapes"),
        (np.ones((2, 5)), np.ones((2, 6)), "shapes"),
        (np.ones((2, 5, 3)), np.ones((2, 5)), "shapes"),
        (np.ones(5), np.ones(5), "shapes"),
        (np.ones((2, 1)), np.ones((2, 1)), "shapes"),
        (np.ones((0, 5)), np.ones((0, 5)), "shapes"),
        (np.ones((2, 5, 0)), np.ones((2, 5, 0)), "shapes"),
        (np.ones((2, 5)), np.full((2, 5), math.nan), "differ by nan"),
        (np.full((2, 5), math.inf), np.full((2, 5), math.inf), "differ by nan"),
        (np.full((2, 5), 1.5), np.zeros((2, 5)), "differ by 1.5; expected at most span=1"),
    ],
)
def test_scores_that_do_not_fit(first: Numbers, second: Numbers, message: str) -> None:
    with pytest.raises(InputError, match=message):
        difference(first, second)


@pytest.mark.parametrize(("level", "comparisons"), [(95, 1), (1.0, 1), (0.0, 1), (math.nan, 1), (0.95, 0)])
def test_levels_that_do_not_exist(level: float, comparisons: int) -> None:
    arm = Difference(0.1, 5, 100, 1e-4, 1e-5, 2e-4)
    for call in (arm.interval, lambda **given: arm.detectable(**given)):
        with pytest.raises(InputError, match="a level of"):
            call(level=level, comparisons=comparisons)


def test_what_is_no_probability_is_not_corrected() -> None:
    for wrong in (math.nan, -0.1, 1.1):
        with pytest.raises(InputError, match="from 0 to 1"):
            holm([0.5, wrong])


def test_without_scipy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(InputError, match=r"pcgraph\[study\]"):
        difference(np.ones((2, 5)), np.ones((2, 5)))
