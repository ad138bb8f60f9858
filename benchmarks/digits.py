"""Feedback and noise on real digits: what the dynamics bring, over seeds, with controls.

    python benchmarks/digits.py runs/digits --seeds 5

For each seed: the plain network is trained on clean images, its feedback by reconstruction of clean images,
and then, together, the feedback and the dynamics (beta, lambda, memory and alpha of each node) to classify
training images of which some have Gaussian noise: the sections ``train`` and ``tune`` of specs/digits.yaml.
The controls lack one thing each; see `VARIANTS`. 400 training images are held out; those of all seeds say at
which step to read the answer, by one rule for all networks (`Study.chosen`). Then the 1,000 test images are
classified at every step, clean and under noise. Pixels run from 0 to 1 and Gaussian noise is not clipped, so
sigma is on that scale.

What is done is not done again: stop it, run it again, and it goes on; run it for each seed in a process of
its own (``--only 3``), for some of the networks (``--variants together``), and once more for the table, which
is made of whatever is there (``--table``). ``--ship`` writes seed 0's networks into the package.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import time
from pathlib import Path

import numpy as np
import torch

import pcgraph as pcg
from pcgraph.datasets import ImageData, batches, noisy, open_data, split
from pcgraph.datasets.noise import Noise
from pcgraph.evaluation.statistics import Bootstrap, interval
from pcgraph.files import whole_file
from pcgraph.learning.dynamics import DynamicsTask, with_noise
from pcgraph.learning.feedback import Feedback
from pcgraph.learning.through_time import ThroughTime
from pcgraph.spec import NodeGains, PredifyDynamics, Spec, Train, Tune
from pcgraph.training import Task, fit

SPEC = Path(__file__).parent.parent / "specs" / "digits.yaml"
BACKBONE = Train.model_validate(
    {
        "task": "through_time",
        "steps": 0,
        "learns": ["backbone"],
        "epochs": 16,
        "optimizer": {"name": "AdamW", "lr": 0.004, "weight_decay": 0.05},
        "schedule": {"kind": "cosine", "warmup": 2.0},
        "augment": {"shift": 2},
    }
)
START = PredifyDynamics.model_validate(
    {
        "feedforward": 0.8,
        "feedback": 0.15,
        "error": 0.02,
        "nodes": {"e1": {"feedforward": 0.4, "feedback": 0.5}},
    }
)
"""Where the tuning starts: the first layer follows its prediction, the others mostly what they are fed."""
ALONE_START = START.model_copy(update={"nodes": {"e1": NodeGains(feedforward=0.1, feedback=0.87)}})
ALONE_TUNE = Tune.model_validate(
    {
        "epochs": 1,
        "batch": 36,
        "steps": [2, 8],
        "optimizer": {"lr": 0.05},
        "schedule": {"kind": "cosine"},
        "noise": {"gaussian": [0.0, 1.2]},
    }
)
"""The best that was found where the feedback stays as reconstruction made it."""
GAUSSIAN = (0.25, 0.5, 0.75, 1.0, 1.5)
SALT_PEPPER = (0.1, 0.2, 0.3, 0.4, 0.5)
CONDITIONS: dict[str, Noise | None] = {
    "clean": None,
    **{f"gaussian {level:g}": Noise("gaussian", level) for level in GAUSSIAN},
    **{f"salt_pepper {level:g}": Noise("salt_pepper", level) for level in SALT_PEPPER},
}
FEW = ("clean", "gaussian 0.5", "gaussian 1", "salt_pepper 0.2", "salt_pepper 0.4")
"""What all variants are tested on, and what the held-out images are tested on."""
PLAIN, TOGETHER, ALONE = "plain (feedforward only)", "together", "reconstruction alone"
VARIANTS = {
    TOGETHER: "feedback trained by reconstruction, then feedback and dynamics tuned together",
    ALONE: "feedback trained by reconstruction and left so, dynamics tuned, as in the published studies",
    "lambda=0": "dynamics tuned in the same stage without any feedback prediction",
    "untrained feedback": "dynamics tuned in the same stage, feedback random and left so",
    "together from untrained": "the same stage from random feedback",
}


def prepared(part: str, seed: int) -> ImageData | tuple[ImageData, ImageData]:
    """The training images and those held out of them, or the test images."""
    spec = pcg.load_spec(SPEC)
    assert spec.backbone is not None
    assert spec.backbone.preprocess is not None
    data = open_data("digits", part, shape=spec.backbone.input, preprocess=spec.backbone.preprocess)
    return split(data, 0.1, seed) if part == "train" else data


def stage(folder: Path, make: object, data: ImageData, held: ImageData, settings: object, seed: int) -> Spec:
    """One training: done, gone on with, or begun. Gives the spec that it wrote."""
    if not (folder / "spec.yaml").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        begun = time.perf_counter()
        task: Task = make()
        options = {"resume": True, "validation": held, "seed": seed, "device": "cpu", "trackers": []}
        fit(task, data, settings, folder, on_epoch=lambda e, m: say(folder, e, m), **options)
        print(f"{folder}: {time.perf_counter() - begun:.0f} s", flush=True)
        shutil.rmtree(folder / "checkpoints")
    return pcg.load_spec(folder / "spec.yaml")


def say(folder: Path, epoch: int, measured: dict[str, float]) -> None:
    print(f"{folder} {epoch + 1}:", ", ".join(f"{n} {float(v):.4f}" for n, v in measured.items()), flush=True)


def train(folder: Path, seed: int, variants: list[str]) -> dict[str, Spec]:
    """The networks of one seed, by variant."""
    data, held = prepared("train", seed)
    given = pcg.load_spec(SPEC)
    bare = given.model_copy(
        update={
            "weights": None,
            "backbone": given.backbone.model_copy(update={"weights": None}),
            "dynamics": START,
        }
    )
    plain = stage(
        folder / "backbone",
        lambda: ThroughTime(pcg.build(bare, seed=seed), BACKBONE),
        data,
        held,
        BACKBONE,
        seed,
    )
    untrained = plain.model_copy(update={"weights": None, "dynamics": START})
    assert given.train is not None
    assert given.tune is not None
    learned = stage(
        folder / "feedback",
        lambda: Feedback(pcg.build(untrained, seed=seed)),
        data,
        held,
        given.train,
        seed,
    )
    learned, alone = (learned.model_copy(update={"dynamics": d}) for d in (START, ALONE_START))
    frozen = given.tune.model_copy(update={"learns": ["dynamics"]})
    cut = {"feedback": 0.0}
    first = START.nodes["e1"].model_copy(update=cut)
    stages = {
        TOGETHER: (learned, given.tune),
        ALONE: (alone, ALONE_TUNE),
        "lambda=0": (
            learned.model_copy(update={"dynamics": START.model_copy(update={**cut, "nodes": {"e1": first}})}),
            frozen,
        ),
        "untrained feedback": (untrained, frozen),
        "together from untrained": (untrained, given.tune),
    }
    found = {}
    for variant in variants:
        spec, settings = stages[variant]
        noised = [with_noise(part, settings.noise) for part in (data, held)]
        found[variant] = stage(
            folder / variant.replace(" ", "_"),
            lambda spec=spec, settings=settings: DynamicsTask(pcg.build(spec, seed=seed), settings),
            *noised,
            settings,
            seed,
        )
    return found


def most(variant: str) -> int:
    """The longest run that a network was tuned for."""
    settings = ALONE_TUNE if variant == ALONE else pcg.load_spec(SPEC).tune
    assert settings is not None
    assert settings.steps is not None
    return settings.steps[1]


def correct(spec: Spec, data: ImageData, noise: Noise | None, steps: int, seed: int) -> np.ndarray:
    """Whether each image is classified rightly at each step: (images, steps + 1), uint8."""
    scheduler = pcg.Scheduler(pcg.build(spec, seed=seed))
    found = []
    for batch in batches(noisy(data, noise), 100, seed=seed):
        outputs = scheduler.run(batch.images, steps).output
        found.append(torch.stack([output.argmax(1) == batch.labels for output in outputs], dim=1))
    return torch.cat(found).numpy().astype(np.uint8)


def measure(folder: Path, variant: str, spec: Spec, seed: int) -> None:
    """Test one network; the arrays by ``part/condition`` go to ``correct.npz`` beside it."""
    path = folder / variant.replace(" ", "_") / "correct.npz"
    if path.is_file():
        return
    _, held = prepared("train", seed)
    test = prepared("test", seed)
    begun = time.perf_counter()
    found = {}
    for condition, noise in CONDITIONS.items():
        few, main, steps = condition in FEW, variant in (TOGETHER, ALONE), most(variant)
        if few or main:
            found[f"test/{condition}"] = correct(spec, test, noise, steps * (1 + (few and main)), seed)
        if few:
            found[f"held/{condition}"] = correct(spec, held, noise, steps, seed)
    with whole_file(path) as partial:
        np.savez_compressed(partial, **found)
    print(f"{path}: {time.perf_counter() - begun:.0f} s", flush=True)


class Study:
    """What was measured: arrays by variant and seed."""

    def __init__(self, folder: Path) -> None:
        self.arrays: dict[str, dict[int, dict[str, np.ndarray]]] = {variant: {} for variant in VARIANTS}
        for path in sorted(folder.glob("seed*/*/correct.npz")):
            seed, variant = path.parts[-3].removeprefix("seed"), path.parts[-2].replace("_", " ")
            self.arrays[variant][int(seed)] = dict(np.load(path))
        self.arrays = {variant: seeds for variant, seeds in self.arrays.items() if seeds}
        self.seeds = sorted(self.arrays[TOGETHER])

    def chosen(self, variant: str, *, kept: bool = True) -> int:
        """The step to read the answer at, one for all seeds, by accuracy on the held-out images of all.

        Of the steps (1 or later) that lose nothing on clean images, or else of those that lose least, it is
        the best in the mean over the noises; without ``kept`` it is the best of all steps.
        """
        seeds = self.arrays[variant].values()
        held = {c: np.mean([arrays[f"held/{c}"].mean(axis=0) for arrays in seeds], axis=0) for c in FEW}
        clean = held.pop("clean")
        noise = np.mean([*held.values()], axis=0)
        allowed = clean[1:] >= min(clean[0], clean[1:].max()) if kept else True
        return 1 + int(np.argmax(np.where(allowed, noise[1:], -1.0)))

    def test(self, variant: str, condition: str) -> np.ndarray:
        """(seeds, images, steps + 1)."""
        return np.stack([arrays[f"test/{condition}"] for arrays in self.arrays[variant].values()])

    def rows(self) -> list[dict[str, object]]:
        """The table: accuracy and gain over the plain network, with intervals over images and seeds."""
        rows = []
        for condition in CONDITIONS:
            rows.append(self._row(condition, TOGETHER, PLAIN, 0))
            for variant in self.arrays:
                main = variant in (TOGETHER, ALONE)
                if condition in FEW or main:
                    rows.append(self._row(condition, variant, variant, self.chosen(variant)))
                if main:
                    step = self.chosen(variant, kept=False)
                    rows.append(self._row(condition, variant, f"{variant}, best under noise", step))
        return rows

    def _row(self, condition: str, variant: str, name: str, step: int) -> dict[str, object]:
        every = self.test(variant, condition).astype(float)
        right, plain = every[:, :, step], every[:, :, 0]
        bootstrap = Bootstrap(right.shape[1], len(right))
        accuracy = interval(100 * bootstrap.means(right))
        gain = interval(100 * bootstrap.means(right - plain))
        return {
            "condition": condition,
            "network": name,
            "seeds": len(right),
            "step": step,
            "accuracy": round(accuracy.value, 1),
            "accuracy_low": round(accuracy.low, 1),
            "accuracy_high": round(accuracy.high, 1),
            "median_of_seeds": round(float(np.median(100 * right.mean(axis=1))), 1),
            "gain": round(gain.value, 1),
            "gain_low": round(gain.low, 1),
            "gain_high": round(gain.high, 1),
        }

    def lasting(self, variant: str) -> dict[str, float]:
        """By condition: points between the best step and the last, twice the longest run of the tuning."""
        return {
            condition: round(float(100 * (curve.max() - curve[-1])), 1)
            for condition in FEW
            for curve in [self.test(variant, condition).mean(axis=(0, 1))]
        }


def summarise(folder: Path) -> None:
    study = Study(folder)
    seeds = study.seeds
    rows = study.rows()
    with (folder / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with (folder / "steps.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["condition", "seed", "step", "accuracy"])
        for condition in CONDITIONS:
            for seed, curve in zip(seeds, study.test(TOGETHER, condition).mean(axis=1), strict=True):
                table.writerows((condition, seed, s, f"{100 * v:.1f}") for s, v in enumerate(curve))
    facts = {
        "seeds": seeds,
        "chosen": {variant: study.chosen(variant) for variant in study.arrays},
        "fall_to_twice_the_steps": {
            variant: study.lasting(variant) for variant in (TOGETHER, ALONE) if variant in study.arrays
        },
    }
    (folder / "summary.json").write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    print(f"{len(seeds)} seeds; steps chosen on held-out images: {facts['chosen']}\n")
    print("| condition | network | accuracy, % | gain, points | step | seeds |\n|---|---|---|---|---|---|")
    for row in rows:
        low, high = row["accuracy_low"], row["accuracy_high"]
        gained = "" if row["step"] == 0 else f"{row['gain']} ({row['gain_low']} to {row['gain_high']})"
        print(
            f"| {row['condition']} | {row['network']} | {row['accuracy']} ({low} to {high}) | {gained} "
            f"| {row['step']} | {row['seeds']} |"
        )
    print("\nfall from the best step to twice the steps of the tuning:", facts["fall_to_twice_the_steps"])
    figure(study, folder / "digits.svg")


def figure(study: Study, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "pcgraph"
    from matplotlib import pyplot

    canvas, all_axes = pyplot.subplots(2, 2, figsize=(8, 6.4), layout="constrained", sharey=True)
    kinds = (
        ("gaussian", GAUSSIAN, "Gaussian noise, sigma"),
        ("salt_pepper", SALT_PEPPER, "salt and pepper, share"),
    )
    colours = pyplot.get_cmap("viridis")(np.linspace(0, 0.9, 6))
    shown = {
        "plain": (TOGETHER, 0),
        "tuned together": (TOGETHER, study.chosen(TOGETHER)),
        ALONE: (ALONE, study.chosen(ALONE, kept=False)),
    }
    for (kind, levels, title), (over, by) in zip(kinds, all_axes, strict=True):
        names = ["clean", *[f"{kind} {level:g}" for level in levels]]
        for name, colour, level in zip(names, colours, (0, *levels), strict=True):
            curves = 100 * study.test(TOGETHER, name).mean(axis=1)
            over.plot(curves.mean(axis=0), color=colour, label=f"{level:g}")
            reach = curves.min(axis=0), curves.max(axis=0)
            over.fill_between(range(curves.shape[1]), *reach, color=colour, alpha=0.15)
        over.axvline(most(TOGETHER), color="0.6", linewidth=0.8, linestyle=":")
        over.set(xlabel="step", ylabel="accuracy, %", title=title, ylim=(0, 102))
        over.legend(fontsize="small", ncols=2)
        for label, (variant, step) in shown.items():
            values = [study.test(variant, name)[:, :, step] for name in names]
            found = [interval(100 * Bootstrap(value.shape[1], len(value)).means(value)) for value in values]
            middle = np.array([f.value for f in found])
            reach = np.abs(np.array([[f.low for f in found], [f.high for f in found]]) - middle)
            by.errorbar((0, *levels), middle, reach, marker="o", markersize=4, capsize=3, label=label)
        by.set(xlabel="level", title=title)
        by.legend(fontsize="small")
    canvas.savefig(path, metadata={"Date": None})
    canvas.savefig(path.with_suffix(".png"), dpi=110)


def ship(folder: Path) -> None:
    """Copy the networks of seed 0 into the package, and print the dynamics for specs/digits.yaml."""
    target = Path(pcg.__file__).parent / "data" / "digits"
    shutil.copyfile(folder / "seed0/backbone/backbone.safetensors", target / "backbone.safetensors")
    shutil.copyfile(folder / "seed0" / TOGETHER / "weights.safetensors", target / "feedback.safetensors")
    print(pcg.load_spec(folder / "seed0" / TOGETHER / "spec.yaml").dynamics)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", type=int, help="work on this seed alone, and make no table")
    parser.add_argument("--variants", nargs="+", choices=[*VARIANTS], default=[*VARIANTS])
    parser.add_argument("--table", action="store_true", help="only make the table")
    parser.add_argument("--ship", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [*range(arguments.seeds)] if arguments.only is None else [arguments.only]
    for seed in [] if arguments.table else seeds:
        folder = arguments.folder / f"seed{seed}"
        for variant, spec in train(folder, seed, arguments.variants).items():
            measure(folder, variant, spec, seed)
    if arguments.only is None:
        summarise(arguments.folder)
    if arguments.ship:
        ship(arguments.folder)


if __name__ == "__main__":
    main()
