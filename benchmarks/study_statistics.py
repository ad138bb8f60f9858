"""Do the intervals of a study hold? Studies are simulated whose true differences are known.

`python benchmarks/study_statistics.py [--repeats N] [--table NAME]`

A reference and eight arms answer the same images with the same seeds and noise draws. An answer is right
where a latent value is above zero: how good the arm is + how hard the image is + what its noise draw does +
what the seed does to all arms and to this one + how the arm takes to the image + a logistic rest of its own.
All but the rest are normal, so the true accuracy of an arm is one integral.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import linprog
from scipy.special import expit

from pcgraph.study.statistics import Difference, difference, holm

Numbers = NDArray[np.float64]
ARMS, LEVEL = 8, 0.95
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(200)


@dataclass(frozen=True)
class Truth:
    """Where answers come from; standard deviations in logits.

    Attributes:
        seeds: How many seeds.
        images: How many images.
        arm_seed: What a seed does to one arm alone; 0.1 is 1.5 to 2 percentage points of accuracy.
        arm_image: How differently the arms take to an image.
        better: By how much each arm is better than the reference.
        level: Of all arms: 1.5 is an accuracy of about 74 %.
        hardness: Of images.
        draw: Of the noise, which is the same in all arms and seeds.
        seed: What a seed does to all arms alike.
    """

    seeds: int
    images: int
    arm_seed: float
    arm_image: float
    better: tuple[float, ...] = (0.0,) * ARMS
    level: float = 1.5
    hardness: float = 1.5
    draw: float = 0.5
    seed: float = 0.1

    def answers(self, generator: np.random.Generator) -> Numbers:
        """Of one study: (1 + arms, seeds, images); the reference comes first."""
        arms, seeds, images = 1 + len(self.better), self.seeds, self.images
        latent = self.level + self.hardness * generator.standard_normal(images)
        latent = latent + self.draw * generator.standard_normal(images)
        latent = latent + self.seed * generator.standard_normal((seeds, 1))
        latent = latent + np.array([0.0, *self.better])[:, None, None]
        latent = latent + self.arm_seed * generator.standard_normal((arms, seeds, 1))
        latent = latent + self.arm_image * generator.standard_normal((arms, 1, images))
        return (latent + generator.logistic(size=(arms, seeds, images)) > 0).astype(np.float64)

    def differences(self) -> list[float]:
        """The true ones, of each arm to the reference."""
        spread = math.hypot(self.hardness, self.draw, self.seed, self.arm_seed, self.arm_image)
        accuracy = [
            float(WEIGHTS @ expit(self.level + better + spread * NODES) / WEIGHTS.sum())
            for better in (0.0, *self.better)
        ]
        return [one - accuracy[0] for one in accuracy[1:]]

    def studies(self, repeats: int, seed: int = 0) -> Iterator[list[Numbers]]:
        """The paired differences of each arm, (seeds, images), study after study."""
        generator = np.random.default_rng([seed, self.seeds, self.images, *self._numbers()])
        for _ in range(repeats):
            reference, *arms = self.answers(generator)
            yield [arm - reference for arm in arms]

    def _numbers(self) -> list[int]:
        return [round(1000 * one) for one in (self.arm_seed, self.arm_image)]


def found(table: Numbers) -> Difference:
    """As a study does it."""
    return difference(table, np.zeros_like(table))


# ---- other rules ---------------------------------------------------------------------------------


def satterthwaite(of: Difference, alpha: float) -> float:
    """The sum of the mean squares, with the degrees of freedom that fit its first two moments."""
    variance = of.from_images + max(of.from_seeds, of.from_both)
    parts = of.from_seeds**2 / (of.seeds - 1) + (of.from_images + of.from_both) ** 2 / (of.images - 1)
    return float(stats.t.isf(alpha / 2, variance**2 / parts) * math.sqrt(variance))


def seeds_alone(of: Difference, alpha: float) -> float:
    """Student's t on the seeds' means."""
    return float(stats.t.isf(alpha / 2, of.seeds - 1) * math.sqrt(of.from_seeds))


def images_alone(of: Difference, alpha: float) -> float:
    """Student's t on the images' means."""
    return float(stats.t.isf(alpha / 2, of.images - 1) * math.sqrt(of.from_images + of.from_both))


def ours(of: Difference, alpha: float) -> float:
    """The rule of `pcgraph.study.statistics`."""
    return of.margin(alpha)


RULES: dict[str, Callable[[Difference, float], float]] = {
    "ours": ours,
    "Satterthwaite": satterthwaite,
    "t over seeds": seeds_alone,
    "t over images": images_alone,
}


def bootstrap(table: Numbers, seeds: Numbers, images: Numbers) -> tuple[float, float]:
    """The percentile interval when seeds and images are drawn again, each by itself."""
    means = np.einsum("ri,ri->r", seeds @ table, images) / table.size
    return tuple(np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))


# ---- tables --------------------------------------------------------------------------------------

SIZES = [(seeds, images) for images in (200, 1000) for seeds in (2, 5, 10)]
SPREADS = [(arm_seed, arm_image) for arm_image in (0.0, 1.0) for arm_seed in (0.0, 0.1, 0.3)]
HALF = (0.0,) * (ARMS // 2) + (0.3,) * (ARMS - ARMS // 2)


def cases(better: tuple[float, ...] = (0.0,) * ARMS) -> Iterator[Truth]:
    for (arm_seed, arm_image), (seeds, images) in itertools.product(SPREADS, SIZES):
        yield Truth(seeds, images, arm_seed, arm_image, better)


def head(*names: str) -> None:
    names = ("SD of seeds", "SD of arm x image", "images", "seeds", *names)
    print(f"| {' | '.join(names)} |\n{'|---' * len(names)}|")


def about(truth: Truth) -> str:
    return f"| {truth.arm_seed} | {truth.arm_image} | {truth.images} | {truth.seeds} |"


def coverage(repeats: int) -> None:
    """How often intervals hold: one by one, and all eight corrected ones at once; arms that are equal."""
    head("holds", "all corrected hold", "half width, points")
    for truth in cases():
        hold, all_hold, width = [], [], []
        for study in truth.studies(repeats):
            arms = [found(table) for table in study]
            hold += [abs(arm.value) <= arm.margin(1 - LEVEL) for arm in arms]
            all_hold.append(all(abs(arm.value) <= arm.margin((1 - LEVEL) / ARMS) for arm in arms))
            width += [100 * arm.margin(1 - LEVEL) for arm in arms]
        row = f"{np.mean(hold):.3f} | {np.mean(all_hold):.3f} | {np.median(width):.2f} |"
        print(about(truth), row, flush=True)


def rules(repeats: int) -> None:
    """How often intervals of other rules hold."""
    head(*RULES, "bootstrap")
    for truth in cases():
        if truth.images > 200:
            continue
        generator = np.random.default_rng(0)
        draws = [
            generator.multinomial(size, [1 / size] * size, 1000).astype(np.float64)
            for size in (truth.seeds, truth.images)
        ]
        hold: dict[str, list[bool]] = {name: [] for name in (*RULES, "bootstrap")}
        for study in truth.studies(repeats):
            for table in study[:2]:
                arm = found(table)
                for name, rule in RULES.items():
                    hold[name].append(abs(arm.value) <= rule(arm, 1 - LEVEL))
                low, high = bootstrap(table, *draws)
                hold["bootstrap"].append(low <= 0 <= high)
        print(about(truth), " | ".join(f"{np.mean(one):.3f}" for one in hold.values()), "|", flush=True)


def discoveries(repeats: int) -> None:
    """Families of which half differ: intervals of true differences, discoveries false and right (Holm)."""
    head("holds", "any false discovery", "found of the true")
    for truth in cases(HALF):
        true, hold, false, right = truth.differences(), [], [], []
        for study in truth.studies(repeats, seed=1):
            arms = [found(table) for table in study]
            hold += [abs(arm.value - at) <= arm.margin(1 - LEVEL) for arm, at in zip(arms, true, strict=True)]
            rejected = [p <= 1 - LEVEL for p in holm([arm.p_value() for arm in arms])]
            false.append(any(rejected[: ARMS // 2]))
            right += rejected[ARMS // 2 :]
        print(
            about(truth), f"{np.mean(hold):.3f} | {np.mean(false):.3f} | {np.mean(right):.3f} |", flush=True
        )


def equivalence(repeats: int) -> None:
    """Arms that differ by just the margin, called equal; and arms that are equal, called so."""
    head("wrongly equal", "rightly equal")
    for truth in cases(HALF):
        margin, called = truth.differences()[-1], []
        for study in truth.studies(repeats, seed=2):
            called.append([found(table).equivalence(margin) <= 1 - LEVEL for table in study])
        equal, apart = np.mean(called, axis=0).reshape(2, -1).mean(axis=1)
        print(about(truth), f"{apart:.3f} | {equal:.3f} |", flush=True)


def designs(repeats: int) -> None:
    """The smallest difference, in points, that is found with 80 %: one comparison, and one of eight."""
    print(
        "| SD of seeds | SD of arm x image | images | seeds | alone | of eight |\n|---|---|---|---|---|---|"
    )
    for arm_seed, arm_image in SPREADS:
        pilots = Truth(5, 200, arm_seed, arm_image).studies(repeats // 8)
        parts = np.mean([astuple(found(table)) for study in pilots for table in study], axis=0)
        pilot = Difference(0.0, 5, 200, *map(float, parts[3:]))
        for images, seeds in itertools.product((200, 1000, 10_000), (2, 3, 5, 10, 20)):
            alone, of_eight = (
                100 * pilot.detectable(seeds=seeds, images=images, comparisons=count) for count in (1, ARMS)
            )
            print(about(Truth(seeds, images, arm_seed, arm_image)), f"{alone:.1f} | {of_eight:.1f} |")


def least(_: int) -> None:
    """How seldom intervals could hold at best, without any variance over seeds; no studies are simulated.

    A rule gives a margin for each variance over seeds that may be found. Of all rules, drawn ones included,
    that hold nearly as often as they say for every true variance, the linear programme finds the one that
    holds least often where seeds do not matter. Many images; normal.
    """
    print("| level | seeds | image variance / rest | ours | the least of any rule |\n|---|---|---|---|---|")
    for alpha, seeds, of_images in itertools.product((0.05, 0.05 / ARMS), (2, 5, 10), (0.0, 1.0, 10.0)):
        one = Difference(0.0, seeds, 10**6, of_images, 1.0, 0.0)
        held = _without_seeds(one, alpha)
        best = _least(seeds, of_images, alpha)
        print(f"| {1 - alpha:.4g} | {seeds} | {of_images:g} | {held:.3f} | {best:.3f} |", flush=True)


def _without_seeds(one: Difference, alpha: float) -> float:
    """How often ours holds where the variance over seeds is that of the rest."""
    quantiles = stats.chi2.ppf((np.arange(2000) + 0.5) / 2000, one.seeds - 1) / (one.seeds - 1)
    margins = np.array([replace(one, from_seeds=float(share)).margin(alpha) for share in quantiles])
    return float(1 - 2 * stats.norm.sf(margins / math.sqrt(one.from_images + 1)).mean())


def _least(seeds: int, of_images: float, alpha: float) -> float:
    """The linear programme: the chance of each margin for each class of variances that may be found.

    Wrong in at most 1.2 alpha of all studies; no margin less than that over images alone.
    """
    edges = np.concatenate([[0], np.geomspace(1e-3, 1e5, 71), [np.inf]])
    factors = np.concatenate([np.linspace(1, 4, 25), np.geomspace(4.3, 2000, 45)])
    margins = factors * stats.norm.isf(alpha / 2) * math.sqrt(1 + of_images)
    true = 1 + np.concatenate([[0], np.geomspace(0.1, 3000, 30)])
    classes = np.array([np.diff(stats.chi2.cdf(edges * (seeds - 1) / one, seeds - 1)) for one in true])
    holds = 1 - 2 * stats.norm.sf(margins / np.sqrt(true + of_images)[:, None])
    often = np.einsum("tc,tm->tcm", classes, holds).reshape(len(true), -1)
    one_each = np.kron(np.eye(len(edges) - 1), np.ones(len(margins)))
    limit = np.full(len(true), -(1 - 1.2 * alpha))
    solved = linprog(often[0], -often, limit, one_each, np.ones(len(one_each)), bounds=(0, 1))
    return float(solved.fun)


TABLES = {one.__name__: one for one in (coverage, rules, discoveries, equivalence, designs, least)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--table", choices=[*TABLES])
    given = parser.parse_args()
    for name, table in TABLES.items():
        if given.table in (None, name):
            print(f"\n{(table.__doc__ or '').splitlines()[0]} {given.repeats} studies.\n", flush=True)
            table(given.repeats)
