"""``pcgraph run``: simulate, and see what happened."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcgraph.cli.options import (
    AsJson,
    Batch,
    Compiled,
    Device,
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
from pcgraph.cli.report import page_beside
from pcgraph.cli.screen import Screen
from pcgraph.display.safe import one_line

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pcgraph.datasets.noise import Noise
    from pcgraph.errors import Fault
    from pcgraph.network import PCNetwork
    from pcgraph.report.trajectory import Trajectory
    from pcgraph.simulation.tape import Tape
    from pcgraph.spec import Preprocess, Spec

SHOWN = 4
"""Images up to which each has a table of its own."""


class Precision(StrEnum):
    """What the run computes in."""

    float32 = "float32"
    float64 = "float64"
    bfloat16 = "bfloat16"


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
            "share P of the pixels black or white, before the normalisation.",
        ),
    ] = None,
    seed: Seed = 0,
    batch: Batch = 16,
    memory: Memory = None,
    compiled: Compiled = False,
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
            setup = Setup(steps, seed, find_device(device), dtype, memory, compiled)
            network = setup.build(given, trusted(trust), not no_verify)
            inputs = find_inputs(network, images or [], noisy, seed)
            made = given.schedule.steps if steps is None else steps
            check_room(own.work, recorded_bytes(network, record or [], made, len(inputs)))
        with Tape(own.work / TENSORS, record or []) as tape:
            with screen.working(f"Running {given.name}", len(inputs)) as advance:
                found = setup.run(network, inputs.batches(batch), record or [], advance, tape)
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


# ---- the pieces, which the demo uses too -----------------------------------------------------------


@dataclass(frozen=True)
class Setup:
    """How to run."""

    steps: int | None
    seed: int
    device: torch.device
    dtype: Precision
    memory: str | None = None
    compiled: bool = False

    def build(self, spec: Spec, trust: bool, verify: bool = True) -> PCNetwork:
        """The network, where and in what it is to compute."""
        import torch

        from pcgraph.building.network import build

        network = build(spec, trust=trust, seed=self.seed, verify=verify)
        return network.to(self.device, torch.float64 if self.dtype == Precision.float64 else torch.float32)

    def run(
        self,
        network: PCNetwork,
        batches: Iterable[tuple[list[str], Tensor]],
        record: Sequence[str],
        advance: Callable[[int], None],
        tape: Tape | None = None,
    ) -> Found:
        """Run the dynamics on all batches, and keep what ``record`` names, in memory or on a tape."""
        import torch

        from pcgraph.datasets.classes import classes_of, names_of
        from pcgraph.errors import DivergenceError
        from pcgraph.report.advice import explain_growth
        from pcgraph.report.summary import class_labels
        from pcgraph.report.trajectory import follow
        from pcgraph.scheduler import Scheduler
        from pcgraph.tracing.facts import categories_of

        generator = torch.Generator().manual_seed(self.seed)
        trajectories: list[Trajectory] = []
        kept: dict[str, list[Tensor]] = {}
        terms: list[str] = []
        classes = 0
        scheduler = Scheduler(network)
        scheduler = scheduler.compile() if self.compiled else scheduler
        growth: list[Fault] = []
        for batch in batches:
            try:
                ((found, run),) = follow(
                    scheduler,
                    [batch],
                    steps=self.steps,
                    record=record,
                    generator=generator,
                    bfloat16=self.dtype == Precision.bfloat16,
                    to=tape,
                    memory=self.memory,
                    seed=self.seed,
                    first=len(trajectories),
                )
            except DivergenceError as error:
                error.faults += tuple(explain_growth(network, batch[1]))
                raise
            growth = growth or explain_growth(network, batch[1], run.state)
            trajectories += found
            terms = list(run.energy)
            if found[0].classes:
                classes = run.output[0].shape[1]
            for item in record if tape is None else ():
                for name, series in recorded(run, item).items():
                    kept.setdefault(name, []).append(torch.stack(series).cpu())
            advance(len(found))
        backbone = network.spec.backbone
        said = classes_of(network.spec)
        names = names_of(said) if said is not None else None
        if names is None and backbone and backbone.model:
            names = categories_of(backbone.model, backbone.weights)
        tensors = {name: together(parts) for name, parts in kept.items()}
        growth = network.spec.located(growth)
        return Found(terms, class_labels(names, classes), trajectories, tensors, growth)


@dataclass(frozen=True)
class Found:
    """What a run found.

    Attributes:
        terms: Names of the error terms.
        labels: Names of the classes; empty without class scores.
        trajectories: What each image did.
        tensors: What was recorded in memory, by ``quantity:name``; each (steps + 1, images, *shape).
        growth: Why states grew far beyond their start; empty where none did.
    """

    terms: list[str]
    labels: list[str]
    trajectories: list[Trajectory]
    tensors: dict[str, Tensor]
    growth: list[Fault]


@dataclass(frozen=True)
class Inputs:
    """What is given to a network: image files, or tensors (inputs, *shape) by the names of their files."""

    paths: Sequence[Path]
    preprocess: Preprocess
    shape: tuple[int, ...]
    noise: Noise | None
    seed: int
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths) + sum(len(tensor) for tensor in self.tensors.values())

    def batches(self, size: int) -> Iterable[tuple[list[str], Tensor]]:
        """Names and inputs, batch by batch."""
        from pcgraph.datasets.images import load_images

        if self.paths:
            return load_images(
                self.paths, self.preprocess, self.shape, batch=size, noise=self.noise, seed=self.seed
            )
        import torch

        names = [
            name if len(tensor) == 1 else f"{name}[{place}]"
            for name, tensor in self.tensors.items()
            for place in range(len(tensor))
        ]
        parts = torch.split(torch.cat(list(self.tensors.values())), size)
        return [(names[i * size : (i + 1) * size], part) for i, part in enumerate(parts)]


def find_inputs(network: PCNetwork, images: Sequence[str], noise: Noise | None, seed: int) -> Inputs:
    """What to run on.

    Raises:
        InputError: There are no such images, or the network takes none.
    """
    import torch

    from pcgraph.datasets import preprocess_for
    from pcgraph.datasets.images import find_images, image_shape
    from pcgraph.datasets.references import part_of
    from pcgraph.datasets.tensors import SUFFIXES, load_tensors
    from pcgraph.errors import Fault, InputError

    shape = network.graph.nodes[network.graph.receiver].shape
    preprocess = preprocess_for(network.spec.backbone)
    if not images:
        images = ["photos"] if len(shape) == 3 and shape[0] in (1, 3) else ["random"]
    if any(part_of(image) for image in images):
        return Inputs([], preprocess, shape, None, seed, named_images(images, shape, preprocess, noise, seed))
    files = [image for image in images if Path(image).suffix.lower() in SUFFIXES and Path(image).is_file()]
    if "random" not in images and not files:
        image_shape(shape)
        return Inputs(find_images(images), preprocess, shape, noise, seed)
    if noise is not None or len(images) > max(len(files), 1):
        what = "--noise" if noise is not None else "images"
        alone = "files of tensors stand" if files else "'random' stands"
        raise InputError(Fault(f"{alone} alone, got {what} besides", hint="Run it once without the other."))
    if files:
        return Inputs(
            [], preprocess, shape, None, seed, {name: load_tensors(Path(name), shape) for name in files}
        )
    generator = torch.Generator().manual_seed(seed)
    return Inputs([], preprocess, shape, None, seed, {"random": torch.randn(1, *shape, generator=generator)})


def named_images(
    images: Sequence[str], shape: tuple[int, ...], preprocess: Preprocess, noise: Noise | None, seed: int
) -> dict[str, Tensor]:
    """Images of data sets (``digits:test:0-9``), by their names: (1, *shape) each.

    Raises:
        InputError: There are no such images, or something else is named besides.
    """
    from pcgraph.datasets import noisy, open_data
    from pcgraph.datasets.references import part_of
    from pcgraph.errors import Fault, InputError

    found: dict[str, Tensor] = {}
    for reference in images:
        part = part_of(reference)
        if part is None:
            hint = "Run it once without the other."
            raise InputError(
                Fault("images of data sets stand alone, got others besides", (), hint, reference)
            )
        data = noisy(open_data(reference, "test", shape=shape, preprocess=preprocess), noise)
        for index in range(len(data)):
            item = data.item(index, seed)
            place = index if data.places is None else int(data.places[index])
            found[f"{part[1]}:{part[2]}:{place}"] = item.image[None]
    return found


def find_device(name: str) -> torch.device:
    """The device that ``--device`` means.

    Raises:
        InputError: There is no such device here.
    """
    import torch

    from pcgraph.errors import Fault, InputError

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()
    except Exception as error:  # each kind of device has its own way to say that it is not there
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise InputError(
            Fault(f"device '{name}' cannot be used: {reason}", hint="Try 'cpu' or 'auto'.")
        ) from None
    return device


def recorded(run: Any, item: str) -> dict[str, list[Tensor]]:
    """The series of a run that ``--record`` asked for, by ``quantity:name``."""
    from torch import Tensor

    quantity, _, wanted = item.partition(":")
    if quantity == "output":
        return {"output": run.output} if all(isinstance(output, Tensor) for output in run.output) else {}
    series = getattr(run, quantity)
    return {f"{quantity}:{name}": values for name, values in series.items() if wanted in ("", name)}


def recorded_bytes(network: PCNetwork, record: Sequence[str], steps: int, images: int) -> int:
    """Bytes on the disk that recorded states, predictions, errors and gradients take, with their copy."""
    graph = network.graph
    nodes = {name: name for name in graph.nodes}
    targets = {name: edge.target for name, edge in graph.edges.items()}
    terms = {name: edges[0].target for name, edges in graph.terms.items()}
    of = {"values": nodes, "gradients": nodes, "predictions": targets, "errors": terms}
    sizes = 0
    for item in record:
        quantity, _, wanted = item.partition(":")
        for name, node in of.get(quantity, {}).items():
            if wanted in ("", name):
                sizes += math.prod(graph.nodes[node].shape)
    return 2 * sizes * network.dtype.itemsize * (steps + 1) * images


def together(parts: Sequence[Tensor]) -> Tensor:
    """The batches of a recorded quantity as one tensor; a batch that stopped early keeps its last value."""
    import torch

    longest = max(len(part) for part in parts)
    return torch.cat([torch.cat([part, *[part[-1:]] * (longest - len(part))]) for part in parts], dim=1)


def run_figures(title: str, found: Found) -> dict[str, Any]:
    """The figure of a run; none where matplotlib is not installed."""
    try:
        from pcgraph.report.figures import run_figure
    except ImportError:
        return {}
    return {"figure": run_figure(title, found.terms, found.labels, found.trajectories)}


def draw(folder: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Make the figures of a run whose numbers are in ``folder``, and write them there.

    Raises:
        InputError: They could not be made; the numbers are kept.
    """
    from pcgraph.runs.figures import numbers_kept, save_figures

    with numbers_kept(folder, "the figures"):
        figures = make()
        save_figures(folder, figures)
    return figures


def tables(found: Found) -> list[Any]:
    """The tables that a person reads."""
    from pcgraph.report.tables import answer_table, class_table, energy_tables

    shown: list[Any] = []
    if found.labels and len(found.trajectories) > SHOWN:
        shown.append(answer_table(found.trajectories))
    elif found.labels:
        shown += [class_table(one, found.labels) for one in found.trajectories]
    if found.terms:
        shown += energy_tables(found.terms, found.trajectories)
    return shown


def remarks(network: PCNetwork, figures: dict[str, Any]) -> list[str]:
    """What one should know about the result."""
    said = []
    if len(network.predictors) and not network.feedback_trained:
        what = "feedback" if network.drive is not None else "edges"
        said.append(
            f"The weights of the {what} are random, not trained: the dynamics run, but mean nothing yet."
        )
    backbone = network.spec.backbone
    if backbone is not None and backbone.weights is None:
        said.append("The backbone's weights are random: the spec names none.")
    if not figures:
        said.append("No figure: matplotlib is not installed (pip install 'pcgraph[plot]').")
    return said


def as_data(found: Found) -> dict[str, Any]:
    """The tables as plain values."""
    from pcgraph.report.summary import mean_energy

    energy = mean_energy(found.trajectories)
    classes = {
        one.image: [
            [
                {"class": found.labels[index], "probability": probability}
                for index, probability in one.best(step)
            ]
            for step in range(one.steps + 1)
        ]
        for one in found.trajectories
        if one.classes
    }
    return {"energy": dict(zip(found.terms, energy.tolist(), strict=True)), "classes": classes}
