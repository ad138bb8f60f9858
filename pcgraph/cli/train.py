"""``pcgraph train``: the weights of a network learn."""

from __future__ import annotations

from typing import Annotated

import typer

from pcgraph.cli.options import (
    AsJson,
    ClassOrder,
    CompiledLearning,
    Device,
    Download,
    Epochs,
    FastIfItPays,
    Force,
    Limit,
    NoVerify,
    Out,
    Quiet,
    Rate,
    Resume,
    Seed,
    SkipBroken,
    SpecFile,
    Tracker,
    TrainingBatch,
    TrainingData,
    TrainingPrecision,
    Trust,
    Workers,
    read_spec,
    trusted,
)
from pcgraph.cli.screen import Screen
from pcgraph.cli.speed import check_speed
from pcgraph.cli.training import Training, one_voice
from pcgraph.cli.training_data import settings_of, training_data


def train(
    spec: SpecFile,
    given_data: Annotated[
        str | None,
        typer.Argument(metavar="[DATA]", help="What to train on, as --data says it.", show_default=False),
    ] = None,
    data: TrainingData = None,
    epochs: Epochs = None,
    batch: TrainingBatch = None,
    lr: Rate = None,
    precision: TrainingPrecision = None,
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
    workers: Workers = 0,
    tracker: Tracker = None,
    download: Download = False,
    skip_broken: SkipBroken = False,
    classes: ClassOrder = None,
    out: Out = None,
    resume: Resume = False,
    force: Force = False,
    compiled: CompiledLearning = False,
    fast: FastIfItPays = False,
    trust: Trust = False,
    no_verify: NoVerify = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train the feedback, the whole network through time, or by its energy: see 'train' in the spec.

    Writes a run folder: spec.yaml and weights that 'pcgraph run' takes, run.json, losses.csv, checkpoints
    and logs. The same command runs in several processes: 'torchrun -m pcgraph train ...', or
    'accelerate launch -m pcgraph train ...'.
    """
    check_speed(compiled, fast, None)
    given = read_spec(spec)
    data = _one_of(given_data, data)
    from pcgraph.training.accelerator import is_main_process

    main = is_main_process()
    screen = Screen(as_json and main, quiet or not main)
    with one_voice(), screen.working("Building the network"):
        from pcgraph.building.network import build
        from pcgraph.learning.tasks import make_task
        from pcgraph.spec import Train

        settings = settings_of(
            given.train or Train(), data=data, epochs=epochs, batch=batch, lr=lr, precision=precision
        )
        network = build(given, trust=trusted(trust), seed=seed, verify=not no_verify)
        task = make_task(network, settings, compiled)
        images, held = training_data(network, settings, seed, download, skip_broken, limit, classes)
    training = Training("train", given, settings, out, seed, device, workers, tracker, resume, force, fast)
    training.run(screen, task, images, held)


def _one_of(argument: str | None, option: str | None) -> str | None:
    if argument is not None and option is not None:
        from pcgraph.errors import Fault, InputError

        raise InputError(Fault(f"data are given twice: '{argument}' and --data {option}"))
    return option if argument is None else argument
