"""Intervals on simulated data, and corruption errors by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pcgraph.evaluation.corruptions import BENCHMARK
from pcgraph.evaluation.statistics import (
    ALEXNET,
    Bootstrap,
    Fall,
    corruption_errors,
    fall,
    interval,
    mean_corruption_error,
)


def test_the_estimate_is_the_plain_mean_and_resamples_vary_as_they_should() -> None:
    values = np.random.default_rng(0).random((1, 400, 3)) < [0.5, 0.9, 1.0]
    means = Bootstrap(400, seed=1, resamples=4000).means(values)
    assert means.shape == (4001, 3)
    assert means[0] == pytest.approx(values[0].mean(axis=0))
    share = values[0].mean(axis=0)
    assert means[1:].mean(axis=0) == pytest.approx(share, abs=0.003)
    assert means[1:].std(axis=0) == pytest.approx(np.sqrt(share * (1 - share) / 400), rel=0.05)
    found = interval(means[:, 0])
    assert found.low == np.quantile(means[1:, 0], 0.025)
    assert found.high == np.quantile(means[1:, 0], 0.975)


def test_the_same_seed_gives_the_same_interval_and_quantities_share_their_draws() -> None:
    values = np.random.default_rng(0).random((1, 50, 1))
    one, other = (Bootstrap(50, seed=1).means(values) for _ in range(2))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, Bootstrap(50, seed=2).means(values))
    bootstrap = Bootstrap(50, seed=1)
    assert np.ptp(bootstrap.means(values + 0.25) - bootstrap.means(values)) == pytest.approx(0, abs=1e-12)


def test_a_draw_of_several_runs_is_a_mean_of_whole_runs_and_whole_images() -> None:
    """What a run or an image adds to all of its values comes in as often as it is drawn."""
    rng = np.random.default_rng(3)
    by_run, by_image = rng.normal(size=(4, 1, 1)), rng.normal(size=(1, 30, 1))
    bootstrap = Bootstrap(30, runs=4, seed=2, resamples=3000)
    together = bootstrap.means(by_run + by_image)
    runs, images = (bootstrap.means(np.broadcast_to(part, (4, 30, 1))) for part in (by_run, by_image))
    assert together == pytest.approx(runs + images, abs=1e-12)
    assert runs[1:].std() == pytest.approx(by_run.std() / np.sqrt(4), rel=0.05)
    assert images[1:].std() == pytest.approx(by_image.std() / np.sqrt(30), rel=0.05)
    assert np.corrcoef(runs[1:, 0], images[1:, 0])[0, 1] == pytest.approx(0, abs=0.06)


@pytest.mark.heavy
def test_coverage_over_images() -> None:
    """95% intervals of an accuracy of 0.8 hold it in about 95 of 100 experiments."""
    rng = np.random.default_rng(7)
    held = 0
    for trial in range(400):
        right = rng.random((1, 200, 1)) < 0.8
        found = interval(Bootstrap(200, seed=trial, resamples=400).means(right)[:, 0])
        held += found.low <= 0.8 <= found.high
    assert 0.91 <= held / 400 <= 0.98  # the standard error of the share is 0.011


@pytest.mark.heavy
def test_coverage_over_runs_and_images() -> None:
    """Runs and images both bring variance; with ten runs the interval is a little too narrow at worst."""
    rng = np.random.default_rng(8)
    held = images_alone = 0
    for trial in range(200):
        effects = rng.normal(0, 0.1, (10, 1, 1)) + rng.normal(0, 0.5, (1, 100, 1))
        values = 0.3 + effects + rng.normal(0, 0.5, (10, 100, 1))
        found = interval(Bootstrap(100, runs=10, seed=trial, resamples=400).means(values)[:, 0])
        held += found.low <= 0.3 <= found.high
        narrow = interval(Bootstrap(100, seed=trial, resamples=400).means(values.mean(axis=0)[None])[:, 0])
        images_alone += narrow.low <= 0.3 <= narrow.high
    assert 0.90 <= held / 200 <= 0.99
    assert images_alone < held  # leaving the runs' variance out is too sure


def test_corruption_error_by_hand() -> None:
    errors = {
        ("fog", 1): np.array([0.2, 0.1]),
        ("fog", 2): np.array([0.6, 0.3]),
        ("snow", 1): np.array([0.5, 0.5]),
    }
    found = corruption_errors(errors, {"fog": 0.8, "snow": np.array([0.5])})
    assert found["fog"] == pytest.approx([0.8 / 1.6, 0.4 / 1.6])  # sums over severities, of both
    assert found["snow"] == pytest.approx([1, 1])
    assert mean_corruption_error(found) is None


def test_mean_corruption_error_is_the_mean_over_the_fifteen() -> None:
    errors = {(name, s): np.array(0.5) for name in BENCHMARK for s in range(1, 6)}
    errors["spatter", 1] = np.array(0.9)  # not one of the 15
    mce = mean_corruption_error(corruption_errors(errors, {**ALEXNET, "spatter": 0.1}))
    assert mce == pytest.approx(np.mean([0.5 / alexnet for alexnet in ALEXNET.values()]))


def test_alexnet_has_an_mce_of_one_and_the_published_errors() -> None:
    published = (
        *(0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360, 0.866816, 0.826572),
        *(0.819324, 0.564592, 0.853204, 0.646056, 0.717840, 0.606500),
    )
    assert tuple(ALEXNET[name] for name in BENCHMARK) == published
    errors = {(name, s): np.array(ALEXNET[name]) for name in BENCHMARK for s in range(1, 6)}
    assert mean_corruption_error(corruption_errors(errors, ALEXNET)) == pytest.approx(1)


def test_what_lasts_and_what_does_not() -> None:
    assert fall([0.5, 0.8, 0.79, 0.78]) is None  # two points are allowed
    assert fall([0.5, 0.9, 0.85, 0.88]) == Fall(1, 2, pytest.approx(0.05))
    assert fall([0.5, 0.6, 0.7]) is None
    assert fall([0.7]) is None
