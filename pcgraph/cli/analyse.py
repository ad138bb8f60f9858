"""``pcgraph analyse``: whether networks settle, which edge matters, and how alike their states are."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcgraph.cli.inputs import find_inputs
from pcgraph.cli.options import (
    AsJson,
    Device,
    Force,
    NoVerify,
    Out,
    Quiet,
    Seed,
    Steps,
    Trust,
    read_spec,
    trusted,
)
from pcgraph.cli.screen import Screen
from pcgraph.cli.simulation import Precision, Setup, find_device
from pcgraph.display.safe import one_line

if TYPE_CHECKING:
    from pcgraph.analysis.inputs import Inputs
    from pcgraph.network import PCNetwork
    from pcgraph.spec import Spec


def analyse(
    networks: Annotated[
        list[str],
        typer.Argument(
            metavar="NETWORK...",
            help="Run folders, spec files, or names of specs that pcgraph ships. Several are compared.",
        ),
    ],
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGES",
            help="As for 'pcgraph run'; those of data sets (digits:test:0-99) come with their classes. "
            "Repeat it for several. Left out: 'photos' where the input is an image, else 'random'.",
            show_default=False,
        ),
    ] = None,
    noise: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND:LEVEL", help="A further condition, as for 'pcgraph run'. Repeat it."),
    ] = None,
    analysis: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="stability, cost, units, lesions, gains or similarity. Repeat it. Left out: all.",
            show_default=False,
        ),
    ] = None,
    steps: Steps = None,
    long: Annotated[
        int, typer.Option(min=8, max=10**6, help="Steps after which it is told whether states settle.")
    ] = 300,
    tolerance: Annotated[
        float, typer.Option(min=0, help="A state that changes by so small a share of its norm has settled.")
    ] = 1e-3,
    modes: Annotated[int, typer.Option(min=1, max=100, help="Leading modes that are told.")] = 3,
    export: Annotated[
        bool, typer.Option("--export", help="Keep all states of all steps, as one .npz file a network.")
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Annotated[Precision, typer.Option(help="float32 or float64.")] = Precision.float32,
    out: Out = None,
    force: Force = False,
    trust: Trust = False,
    no_verify: NoVerify = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find out whether networks settle, what a step costs, which edge matters, and how alike states are.

    Writes a run folder with a CSV for each table. See docs/analysis.md.
    """
    screen = Screen(as_json, quiet)
    given = specs_of(networks)
    from pcgraph.runs.folder import run_folder

    first = next(iter(given.values()))
    with run_folder(f"analyse-{first.name}", out, force=force) as own:
        with screen.working("Building the networks"):
            from pcgraph import analysis as analyses
            from pcgraph.analysis.overview import check_names
            from pcgraph.files import write_text
            from pcgraph.report.analysis import analysis_csvs, analysis_tables

            _check(dtype)
            check_names(analysis or [])
            setup = Setup(steps, seed, find_device(device), dtype)
            built = {name: setup.build(spec, trusted(trust), not no_verify) for name, spec in given.items()}
            names, conditions = conditions_of(built, images or [], noise or [], steps, seed)
        total = len(built) * len(conditions)
        with screen.working("Analysing", total) as advance:
            found = analyses.analyse(
                built,
                conditions,
                names,
                analysis or analyses.ANALYSES,
                steps=long,
                tolerance=tolerance,
                modes=modes,
                advance=advance,
            )
            files = analysis_csvs(found)
            for name, text in files.items():
                write_text(own.work / name, text)
            written = [*files, *(exported(own.work, built, conditions, names) if export else [])]
            write_record(own.work, given, written, {"seed": seed, "device": str(setup.device)})
        own.finish()
    screen.remark(*analysis_tables(found), *found.notes)
    data = {"folder": str(own.path), "images": names, **found.rows, "notes": found.notes}
    screen.result(data, f"Run folder: {one_line(own.path)}")


def specs_of(networks: Sequence[str]) -> dict[str, Spec]:
    """The specs by the names of their networks: file or folder, as much of the path as tells them apart.

    Raises:
        InputError: A network is given twice, or a folder is not that of a run.
        SpecError: A spec is not valid.
    """
    from pcgraph.errors import Fault, InputError
    from pcgraph.report.results import SPEC
    from pcgraph.runs.record import check_written

    found: dict[str, Spec] = {}
    short = [Path(one).stem if Path(one).is_file() else Path(one).name or one for one in networks]
    for reference, name in zip(networks, short, strict=True):
        called = reference if short.count(name) > 1 else name
        if called in found:
            raise InputError(Fault("this network is given twice", where=reference))
        file = Path(reference) / SPEC
        if Path(reference).is_dir():
            if not file.is_file():
                hint = "Give the folder of a run, a training or a tuning, or a spec."
                raise InputError(Fault(f"holds no '{SPEC}'", hint=hint, where=reference))
            check_written(file)
        found[called] = read_spec(str(file) if Path(reference).is_dir() else reference)
    return found


def conditions_of(
    networks: Mapping[str, PCNetwork],
    images: Sequence[str],
    noises: Sequence[str],
    steps: int | None,
    seed: int,
) -> tuple[list[str], dict[str, dict[str, Inputs]]]:
    """Names of the images, and by condition what each network is run on.

    Raises:
        InputError: There are no such images or noises, or networks take different ones.
    """
    import torch

    from pcgraph.analysis.inputs import Inputs
    from pcgraph.datasets.noise import Noise
    from pcgraph.errors import InputError

    levels = {"clean": None, **{text: Noise.parse(text) for text in noises}}
    found: dict[str, dict[str, Inputs]] = {condition: {} for condition in levels}
    names: list[str] = []
    for name, network in networks.items():
        labels = labels_of(network, images)
        made = network.spec.schedule.steps if steps is None else steps
        for condition, noise in levels.items():
            inputs = find_inputs(network, images, noise, seed)
            ((own, batch),) = inputs.batches(len(inputs))
            if names and own != names:
                raise InputError(f"'{name}' does not take the same images as the other networks")
            names = own
            batch = batch.to(network.device, network.dtype)
            given = None if labels is None else torch.tensor(labels, device=network.device)
            found[condition][name] = Inputs(batch, given, made, seed)
    return names, found


def labels_of(network: PCNetwork, images: Sequence[str]) -> list[int] | None:
    """The classes of images of data sets; None for others, or where one has none."""
    from pcgraph.datasets import open_data
    from pcgraph.datasets.classes import classes_of
    from pcgraph.datasets.references import part_of

    if network.drive is None or not images or not all(part_of(image) for image in images):
        return None
    shape, found = network.graph.nodes[network.graph.receiver].shape, []
    for reference in images:
        data = open_data(reference, "test", shape=shape, classes=classes_of(network.spec))
        found += [data.label(place) for place in range(len(data))]
    return None if min(found) < 0 else found


def exported(
    folder: Path,
    networks: Mapping[str, PCNetwork],
    conditions: Mapping[str, Mapping[str, Inputs]],
    images: Sequence[str],
) -> list[str]:
    """Write the states of all networks under all conditions; the names of the files."""
    from pcgraph.analysis.export import save_npz, states_of
    from pcgraph.scheduler import Scheduler

    names = []
    for place, (name, network) in enumerate(networks.items()):
        for number, inputs in enumerate(conditions.values()):
            names.append(f"states-{place}-{number}.npz")
            save_npz(folder / names[-1], states_of(Scheduler(network), inputs[name]), images)
    return names


def write_record(
    folder: Path, specs: Mapping[str, Spec], files: Sequence[str], values: dict[str, Any]
) -> None:
    """Write ``run.json``."""
    from pcgraph.files import write_text
    from pcgraph.files.seals import seal, to_json
    from pcgraph.runs.record import RECORD, resolved, versions

    record = {
        "kind": "analyse",
        "networks": {name: resolved(spec) for name, spec in specs.items()},
        "command": shlex.join(["pcgraph", *sys.argv[1:]]),
        "versions": versions(),
        **values,
    }
    write_text(folder / RECORD, to_json(seal(record, folder, files)))


def _check(dtype: Precision) -> None:
    from pcgraph.errors import Fault, InputError

    if dtype == Precision.bfloat16:
        raise InputError(Fault("bfloat16 is too coarse for analyses", hint="Take float32 or float64."))
