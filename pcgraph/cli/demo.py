"""``pcgraph demo``: a real network on a real photograph, clean and with noise."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcgraph.cli.options import AsJson, Force, Quiet
from pcgraph.cli.run import Found, Inputs, Precision, Setup, as_data, find_device, find_inputs, remarks
from pcgraph.cli.screen import Screen

if TYPE_CHECKING:
    from torch import Tensor

    from pcgraph.network import PCNetwork
    from pcgraph.report.figures import Prediction
    from pcgraph.spec import Preprocess

SPEC = "efficientnet_lite0"
PHOTO = "coffee"
SIGMA = 0.5
"""Noise on the normalised input; a quarter of the range of a pixel."""
SEED = 0


def demo(
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The run folder. Left out: runs/NAME-TIME.", show_default=False),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run EfficientNet-Lite0 with its ImageNet weights on a photograph of a cup of coffee.

    The photograph is shown clean and with Gaussian noise. Takes less than two minutes and no network.
    """
    screen = Screen(as_json, quiet)
    begun = time.perf_counter()
    with screen.working("Building EfficientNet-Lite0"):
        from pcgraph.images import Noise
        from pcgraph.report.folder import new_run_folder, write_run_folder
        from pcgraph.resources import shipped_spec
        from pcgraph.spec import load_spec

        spec = load_spec(shipped_spec(SPEC))
        folder = new_run_folder("demo", out, force)
        setup = Setup(None, SEED, find_device("auto"), Precision.float32)
        network = setup.build(spec, trust=False)
        noise = Noise("gaussian", SIGMA)
        versions = [find_inputs(network, [f"photos:{PHOTO}"], kind, SEED) for kind in (None, noise)]
    names = (f"{PHOTO}, clean", f"{PHOTO}, noise of sigma {SIGMA:g}")
    with screen.working("Running 10 steps", 2) as advance:
        found = setup.run(network, both(names, versions), _pictured(network), advance)
    figures = demo_figures(network, found, versions[0])
    record_of_run: dict[str, Any] = {
        "name": "demo",
        "command": shlex.join(["pcgraph", *sys.argv[1:]]),
        "seed": SEED,
        "device": str(network.device),
        "dtype": "float32",
        "noise": {names[1]: str(noise)},
        "steps": found.trajectories[0].steps,
        "feedback_trained": network.feedback_trained,
        "images": [{"name": name, "steps": found.trajectories[0].steps} for name in names],
    }
    with screen.working("Writing"):
        write_run_folder(
            folder, spec, record_of_run, found.terms, found.labels, found.trajectories, {}, figures
        )
    screen.remark(*_tables(found))
    if not network.feedback_trained:
        screen.remark(UNTRAINED)
    else:
        screen.remark(*remarks(network, figures))
    results = {one.image: as_data(replace(found, trajectories=[one])) for one in found.trajectories}
    seconds = round(time.perf_counter() - begun, 1)
    screen.result(
        {**record_of_run, "seconds": seconds, "folder": str(folder), "results": results},
        f"Run folder: {folder}   ({seconds:g} s)",
    )


UNTRAINED = (
    "The feedback of this network is not trained: its predictions come from random weights. The dynamics\n"
    "work (the energies of the feedback edges fall), but they pull the states towards predictions that mean\n"
    "nothing, and the answer gets worse. Expect no gain in robustness before the feedback is trained."
)


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
    from pcgraph.images import denormalise

    if node == "input":
        return denormalise(state, preprocess).clamp(0, 1).permute(1, 2, 0).numpy()
    return state.mean(dim=0).numpy()
