"""``pcgraph run``: simulate, and see what happened."""

from __future__ import annotations

import shlex
import sys
import time
from typing import Annotated

import typer

from pcgraph.cli.inputs import find_inputs
from pcgraph.cli.options import (
    AsJson,
    Batch,
    Compiled,
    Device,
    Fast,
    Force,
    Memory,
    NoVerify,
    Out,
    Quiet,
    Seed,
    SpecFile,
    Steps,
    Trust,
    read_spec,
    trusted,
)
from pcgraph.cli.outcome import as_data, draw, remarks, run_figures, tables
from pcgraph.cli.report import page_beside
from pcgraph.cli.screen import Screen
from pcgraph.cli.simulation import Precision, Setup, find_device, recorded_bytes
from pcgraph.cli.speed import check_speed
from pcgraph.display.safe import one_line


def run(
    spec: SpecFile,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGES]...",
            help="Image files, folders of them, 'photos' (the photographs that pcgraph ships, 'photos:NAME' "
            "for one), images of data sets ('digits:test:0-9'), .npy, .npz, .safetensors or .pt files of "
            "inputs as the network takes them, or 'random' (one input of standard normal numbers). Left out: "
            "'photos' where the input is an image, else 'random'.",
            show_default=False,
        ),
    ] = None,
    steps: Steps = None,
    noise: Annotated[
        str | None,
        typer.Option(
            metavar="KIND:LEVEL",
            help="gaussian:SIGMA is added to the normalised input and not clipped; salt_pepper:P turns the "
            "share P of the pixels black or white, before the normalisation; blur, low_frequency, occlusion, "
            "low_contrast, stripes: see the page Evaluation.",
        ),
    ] = None,
    seed: Seed = 0,
    batch: Batch = 16,
    memory: Memory = None,
    compiled: Compiled = False,
    fast: Fast = False,
    device: Device = "auto",
    dtype: Annotated[
        Precision, typer.Option(help="bfloat16 computes under autocast and keeps the states in float32.")
    ] = Precision.float32,
    record: Annotated[
        list[str] | None,
        typer.Option(
            metavar="QUANTITY[:NAME]",
            help="Keep tensors: output, values, predictions, errors, energy or gradients, or one of them, as "
            "in values:e3. Repeat it for several.",
        ),
    ] = None,
    out: Out = None,
    force: Force = False,
    trust: Trust = False,
    no_verify: NoVerify = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Simulate a network on images: the best classes and the energy of every edge at each step.

    Writes a run folder: the resolved spec, run.json (versions, seed, command), metrics.csv, the recorded
    tensors, a figure and report.html.
    """
    screen = Screen(as_json, quiet)
    check_speed(compiled, fast, memory)
    given = read_spec(spec)
    begun = time.perf_counter()
    from pcgraph.runs.folder import run_folder

    with run_folder(given.name, out, force=force) as own:
        with screen.working("Building the network"):
            from pcgraph.datasets.noise import Noise
            from pcgraph.files.free_space import check_room
            from pcgraph.report.results import TENSORS, write_run_folder
            from pcgraph.simulation.tape import Tape

            noisy = None if noise is None else Noise.parse(noise)
            setup = Setup(steps, seed, find_device(device), dtype, memory, compiled, fast)
            network = setup.build(given, trusted(trust), not no_verify)
            inputs = find_inputs(network, images or [], noisy, seed)
            made = given.schedule.steps if steps is None else steps
            check_room(own.work, recorded_bytes(network, record or [], made, len(inputs)))
        with Tape(own.work / TENSORS, record or []) as tape:
            with screen.working(f"Running {given.name}", len(inputs)) as advance:
                found = setup.run(network, inputs.batches(batch), record or [], advance, tape, screen.aside)
            record_of_run = {
                "kind": "run",
                "name": given.name,
                "command": shlex.join(["pcgraph", *sys.argv[1:]]),
                "seed": seed,
                "device": str(network.device),
                "dtype": dtype.value,
                "noise": None if noisy is None else str(noisy),
                "steps": max(one.steps for one in found.trajectories),
                "feedback_trained": network.feedback_trained,
                "feedback_edges": [e.name for e in network.graph.edges.values() if e.kind == "feedback"],
                "seconds": round(time.perf_counter() - begun, 3),
                "images": [{"name": one.image, "steps": one.steps} for one in found.trajectories],
                "warnings": [str(one) for one in found.growth],
            }
            write_run_folder(
                own.work, given, record_of_run, found.terms, found.labels, found.trajectories, tape
            )
        own.finish()
        figures = draw(own.path, lambda: run_figures(given.name, found))
        page_beside(own.path, network)
    screen.remark(*tables(found))
    screen.remark(*remarks(network, figures), *[f"Warning: {one}" for one in found.growth])
    screen.result(
        {**record_of_run, "folder": str(own.path), **as_data(found)}, f"Run folder: {one_line(own.path)}"
    )
