"""``pcgraph evaluate``: how well a network does at every step, clean, under noise and under attack."""

from __future__ import annotations

import shlex
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcgraph.cli.conditions import attacks, corrupted, noises
from pcgraph.cli.options import (
    AsJson,
    Batch,
    ClassOrder,
    Compiled,
    Device,
    Fast,
    Force,
    Limit,
    Memory,
    NoVerify,
    Out,
    Quiet,
    Seed,
    SkipBroken,
    SpecFile,
    Steps,
    Trust,
    Workers,
    choice,
    class_order,
    read_spec,
    trusted,
)
from pcgraph.cli.outcome import draw
from pcgraph.cli.report import page_beside
from pcgraph.cli.screen import Screen
from pcgraph.cli.simulation import Precision, Setup, find_device
from pcgraph.cli.speed import check_speed, whole_batches
from pcgraph.display.safe import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcgraph.evaluation import Row


def evaluate(
    spec: SpecFile,
    data: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help="digits, photos, folder:PATH, imagenet:PATH, webdataset:PATH, huggingface:PATH, or mnist, "
            "cifar10, cifar100 with :PATH; their test images.",
        ),
    ],
    noise: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:LEVELS",
            help="gaussian:0.25,0.5 is added to the normalised input and not clipped; salt_pepper:0.1 turns "
            "that share of the pixels black or white; blur, low_frequency, occlusion, low_contrast, stripes: "
            "see the page Evaluation. Repeat it for several kinds.",
        ),
    ] = None,
    corruptions: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Corruptions of ImageNet-C with commas between them; 'benchmark' are the 15 of the mCE, "
            "'all' the 19.",
            show_default=False,
        ),
    ] = None,
    severity: Annotated[
        str, typer.Option(metavar="LEVELS", help="Severities of the corruptions.")
    ] = "1,2,3,4,5",
    imagenet_c: Annotated[
        Path | None,
        typer.Option(
            "--imagenet-c",
            metavar="DIR",
            help="Read the corrupted images from ImageNet-C's folder. Left out: they are computed.",
            show_default=False,
        ),
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:EPSILONS",
            help="bim:0.01,0.03 or pgd:0.01,0.03 (random start): attacks in the maximum norm, for pixels "
            "from 0 to 1. Repeat it for several kinds.",
        ),
    ] = None,
    target_step: Annotated[
        str | None,
        typer.Option(
            metavar="STEPS",
            help="The steps whose output is attacked, with commas between them. Left out: the last.",
            show_default=False,
        ),
    ] = None,
    targeted: Annotated[
        bool, typer.Option("--targeted", help="Attack towards one class (800 of 1,000 further on).")
    ] = False,
    iterations: Annotated[int, typer.Option(min=1, help="Gradient steps of an attack.")] = 20,
    steps: Steps = None,
    distances: Annotated[
        bool,
        typer.Option(
            "--distances", help="Measure the correlation distance of every node's state to the clean one."
        ),
    ] = False,
    limit: Limit = None,
    batch: Batch = 64,
    memory: Memory = None,
    compiled: Compiled = False,
    fast: Fast = False,
    seed: Seed = 0,
    workers: Workers = 0,
    classes: ClassOrder = None,
    skip_broken: SkipBroken = False,
    device: Device = "auto",
    out: Out = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the evaluation in --out, or add conditions to it.")
    ] = False,
    force: Force = False,
    trust: Trust = False,
    no_verify: NoVerify = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure accuracy at every step of the dynamics, on clean images, under noise and under attack.

    Without labels it measures how often the answer to the clean image at step 0 is given. Writes a run
    folder: evaluation.csv, what every image did (images.safetensors), figures and
    report.html. Started by torchrun or accelerate launch, the processes share the work; the results are the
    same.
    """
    screen = Screen(as_json, quiet)
    check_speed(compiled, fast, memory)
    given = read_spec(spec)
    begun = time.perf_counter()
    from pcgraph.evaluation.processes import Processes
    from pcgraph.evaluation.store import PARTS
    from pcgraph.runs.folder import RunFolder, run_folder

    where = find_device(device)
    processes = Processes.find(on_cpu=where.type == "cpu")
    if resume and out is None:
        from pcgraph.errors import Fault, InputError

        hint = "Give the folder of the evaluation to go on with."
        raise InputError(Fault("--resume needs --out", hint=hint))
    own: AbstractContextManager[RunFolder | None] = nullcontext()
    if processes.first:  # it alone looks: the folder exists as soon as it has begun
        kind = "evaluate" if resume else None
        own = run_folder(given.name, out, force=force, staged=False, resume=kind, worth=(PARTS,))
    with own as held:
        folder = processes.agree(None if held is None else held.work)
        assert folder is not None
        with screen.working("Building the network"):
            from pcgraph.datasets import data_digest, open_data, preprocess_for, subset
            from pcgraph.evaluation import folder as folders
            from pcgraph.evaluation import loop
            from pcgraph.evaluation.store import Store
            from pcgraph.files.free_space import check_room
            from pcgraph.training.identity import identity

            if processes.count > 1 and where.type == "cuda" and where.index is None:
                where = find_device(f"cuda:{processes.local}")
            made = given.schedule.steps if steps is None else steps
            network = Setup(made, seed, where, Precision.float32).build(given, trusted(trust), not no_verify)
            images = open_data(
                data,
                "test",
                shape=network.graph.nodes[network.graph.receiver].shape,
                preprocess=preprocess_for(given.backbone),
                classes=class_order(classes, given),
                skip_broken=skip_broken,
            )
            if limit is not None:
                images = subset(images, choice(len(images), limit, seed))
            conditions = [
                *noises(noise or []),
                *corrupted(images, corruptions, severity, imagenet_c),
                *attacks(attack or [], target_step, made, iterations, targeted),
            ]
            settings = loop.Settings(made, batch, seed, distances)
            record: dict[str, Any] = {
                "name": given.name,
                "command": shlex.join(["pcgraph", *sys.argv[1:]]),
                "seed": seed,
                "device": str(network.device),
                "settings": {
                    "data": images.name,
                    "images": len(images),
                    "data_digest": data_digest(images),
                    **asdict(settings),
                    "iterations": iterations,
                    "corrupted": None if imagenet_c is None else str(imagenet_c.absolute()),
                    **identity(network),
                },
            }
            if held is not None:
                check_room(folder, 12 * len(images) * (made + 1) * (1 + len(conditions)))
                folders.begin(folder, given, record, resume=held.goes_on)
            processes.wait()
            store = Store(folder)
            store.read()
        if processes.first and store.damaged:
            names = ", ".join(one_line(file) for file in store.damaged)
            print(f"Damaged, so its images are measured again: {names}", file=sys.stderr)
        try:
            total = loop.work(len(images), conditions, batch, processes)
            with screen.working(f"Evaluating {given.name}", total) as advance:
                measured = loop.evaluate(
                    network,
                    images,
                    conditions,
                    settings,
                    store=store,
                    processes=processes,
                    workers=workers,
                    memory=memory,
                    of_whole=whole_batches(network, compiled, fast, screen.aside),
                    advance=advance,
                )
        except (KeyboardInterrupt, SystemExit):
            if held is not None:
                print(
                    f"What was measured is kept. Go on with --out {one_line(held.path)} --resume.",
                    file=sys.stderr,
                )
            raise
        if held is None:
            return
        with screen.working("Writing the results"):
            record["images"] = len(images) - store.broken
            record["broken"] = store.broken
            record["diverged"] = folders.diverged(measured)
            record["seconds"] = round(time.perf_counter() - begun, 3)
            order = folders.permuted_labels(network, measured, images)
            record["permuted"] = None if order is None else str(order)
            rows = folders.finish(folder, given, record, store, measured, images)
            held.finish()
            figures = draw(held.path, lambda: drawing(given.name, rows))
            page_beside(held.path, network)
    report(screen, held.path, record, rows, list(figures))


# ---- the pieces ------------------------------------------------------------------------------------


def report(
    screen: Screen, folder: Path, record: dict[str, Any], rows: Sequence[Row], figures: Sequence[str]
) -> None:
    """Print the tables, and what one should know about them."""
    from pcgraph.report.robustness_tables import distance_tables, step_tables

    screen.remark(*step_tables(rows), *distance_tables(rows))
    warnings = falls(rows)
    if record["permuted"]:
        warnings.insert(0, f"Warning: {record['permuted']}")
    remarks = [*warnings, *divergences(record["diverged"])]
    if record["broken"]:
        remarks.append(f"{record['broken']} images could not be read and are left out.")
    if not figures:
        remarks.append("No figures: matplotlib is not installed (pip install 'pcgraph[plot]').")
    screen.remark(*remarks)
    data = {**record, "folder": str(folder), "warnings": warnings, "results": as_data(rows)}
    screen.result(data, f"Run folder: {one_line(folder)}")


def divergences(found: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A warning for each condition under which states did not stay finite."""
    return [
        f"Warning: {condition.replace(':', ' ')}: diverged at step {lost['step']}: {lost['images']} images "
        "have no answer from there on, which counts as wrong."
        for condition, lost in found.items()
    ]


def falls(rows: Sequence[Row]) -> list[str]:
    """A warning for each condition whose accuracy does not last; agreement, where there are no labels."""
    from pcgraph.evaluation.statistics import fall

    metric = "accuracy" if any(row.metric == "accuracy" for row in rows) else "agreement"
    series: dict[tuple[str, float], list[float]] = {}
    for row in rows:
        if row.metric == metric:
            series.setdefault((row.noise, row.level), []).append(row.value)
    found = []
    for (noise, level), values in series.items():
        lost = fall(values)
        if lost is not None:
            what = noise if level == 0 else f"{noise} {level:g}"
            found.append(
                f"Warning: {what}: the dynamics do not last: {metric} is {values[lost.best]:.1%} at step "
                f"{lost.best} and falls to {values[lost.worst]:.1%} at step {lost.worst}."
            )
    return found


def drawing(title: str, rows: Sequence[Row]) -> dict[str, Any]:
    """The figures of the results; none where matplotlib is not installed."""
    try:
        from pcgraph.report.robustness import evaluation_figures
    except ImportError:
        return {}
    return dict(evaluation_figures(title, rows))


def as_data(rows: Sequence[Row]) -> dict[str, dict[str, list[float]]]:
    """The values at each step, by metric and condition."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        metric = f"{row.metric}:{row.name}" if row.name else row.metric
        found.setdefault(metric, {}).setdefault(f"{row.noise}:{row.level:g}", []).append(row.value)
    return found
