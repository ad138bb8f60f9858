"""``pcgraph query``: hold some nodes, and read the others."""

from __future__ import annotations

import importlib.util
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcgraph.cli.options import (
    AsJson,
    Device,
    FastIfItPays,
    Force,
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
    from torch import Tensor

    from pcgraph.cli.query_arguments import Asked
    from pcgraph.network import PCNetwork
    from pcgraph.queries import Answer
    from pcgraph.report.answers import ItemAnswer


def query(
    spec: SpecFile,
    clamp: Annotated[
        list[str],
        typer.Option(
            metavar="NODE=VALUE",
            help="Hold a node. VALUE: class numbers (3, 0-9, 1,4: one-hot), DATA:SPLIT:ITEMS "
            "(digits:test:0-9), image files or a folder, FILE.npy, FILE.safetensors[:KEY], or random. "
            "Repeat it for several nodes; one value is given to all items.",
        ),
    ],
    free: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NODE",
            help="A node to read. One that has a value too starts there, and moves. Left out: all nodes "
            "that are not held.",
            show_default=False,
        ),
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NODE=PART",
            help="Hold a part of a node alone: upper, lower, left or right, or a file (.npy, .safetensors, "
            "or an image, whose white part is held).",
            show_default=False,
        ),
    ] = None,
    soft: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NODE=PRECISION",
            help="Hold a node softly: what is given is a noisy observation of it, of this precision (1 / "
            "variance).",
            show_default=False,
        ),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(metavar="KIND:LEVEL", help="Noise on the images, as for run."),
    ] = None,
    steps: Steps = None,
    seed: Seed = 0,
    fast: FastIfItPays = False,
    device: Device = "auto",
    out: Out = None,
    force: Force = False,
    trust: Trust = False,
    no_verify: NoVerify = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Hold some nodes, or parts of them, let the others settle, and read them.

    Classify: --clamp image=digits:test:0-9 --free label. Generate: --clamp label=3 --free image. Complete:
    --clamp image=digits:test:0-9 --mask image=upper. Denoise: --clamp image=digits:test:0-9 --noise
    gaussian:0.5 --soft image=2.

    Writes a run folder: the resolved spec, run.json, the energies (metrics.csv), what was given and read
    (tensors.safetensors), and pictures.
    """
    screen = Screen(as_json, quiet)
    given_spec = read_spec(spec)
    begun = time.perf_counter()
    from pcgraph.runs.folder import run_folder

    with run_folder(given_spec.name, out, force=force) as own:
        with screen.working("Building the network"):
            from pcgraph.building.network import build
            from pcgraph.cli.outcome import draw
            from pcgraph.cli.query_arguments import ask_for
            from pcgraph.cli.simulation import find_device
            from pcgraph.datasets.noise import Noise

            noisy = None if noise is None else Noise.parse(noise)
            network = build(given_spec, trust=trusted(trust), seed=seed, verify=not no_verify)
            network = network.to(find_device(device))
            asked = ask_for(network, clamp, free or [], mask or [], soft or [], noisy, seed)
        with screen.working(f"Asking {given_spec.name}"):
            answer = asked.answer(network, steps, seed, fast)
        if answer.fastest is not None:
            screen.aside(f"Fastest: {answer.fastest}")
        answers = item_answers(network, asked, answer)
        record = {
            "kind": "query",
            "name": given_spec.name,
            "command": shlex.join(["pcgraph", *sys.argv[1:]]),
            "seed": seed,
            "device": str(network.device),
            "noise": None if noisy is None else str(noisy),
            "steps": answer.steps,
            "read": list(answer.read),
            "clamp": clamp,
            "mask": mask or [],
            "soft": soft or [],
            "feedback_trained": network.feedback_trained,
            "seconds": round(time.perf_counter() - begun, 3),
            "images": [{"name": one.name, "steps": answer.steps} for one in answers],
        }
        write(own.work, network, record, asked, answer, answers)
        own.finish()
        figures = draw(own.path, lambda: query_figures(network, asked, answer, answers))
        page_beside(own.path, network)
    from pcgraph.report.answers import answers_table

    screen.remark(answers_table(f"{given_spec.name}: {', '.join(answer.read)}", answers))
    screen.remark(*remarks(network, answers, answer, figures))
    result = {**record, "folder": str(own.path), "answers": [asdict(one) for one in answers]}
    screen.result(result, f"Run folder: {one_line(own.path)}")


def item_answers(network: PCNetwork, asked: Asked, answer: Answer) -> list[ItemAnswer]:
    """What was read, item by item."""
    import torch

    from pcgraph.report.answers import Best, Change, ItemAnswer

    classes = [node for node in answer.read if _holds_classes(network, node)]
    labels = next((one.labels for one in asked.given.values() if min(one.labels) >= 0), None)
    energies = list(answer.energy.values())
    total = torch.stack(energies).sum(dim=0) if energies else torch.zeros(1, len(asked.names))
    errors = {node: _errors(asked, answer, node) for node in answer.read if asked.knows(node)}
    found = []
    for place, name in enumerate(asked.names):
        best = {}
        for node in classes:
            scores = answer[node][place]
            right = None if labels is None or labels[place] >= len(scores) else labels[place]
            best[node] = Best(int(scores.argmax()), float(scores.max()), right)
        error = {node: Change(float(old[place]), float(new[place])) for node, (old, new) in errors.items()}
        found.append(ItemAnswer(name, best, error, Change(float(total[0, place]), float(total[-1, place]))))
    return found


def _errors(asked: Asked, answer: Answer, node: str) -> tuple[Tensor, Tensor]:
    """Mean squared error of a known image where it was not held: of what was given, and of what was read.

    Of a masked part nothing is given: zero.
    """
    import torch

    truth, before = asked.given[node].known, asked.clamp[node]
    missing = torch.ones_like(truth[0], dtype=torch.bool)
    if node in asked.mask:
        missing, before = ~asked.mask[node], torch.zeros_like(before)
    before, after = ((made - truth)[:, missing].square().mean(dim=1) for made in (before, answer[node].cpu()))
    return before, after


def _holds_classes(network: PCNetwork, node: str) -> bool:
    """A vector whose entries compete (categorical), or that is read by nothing: the end of the network."""
    graph = network.graph
    terms = [graph.terms[term][0] for term in graph.terms_into(node)]
    last = not any(node in edge.sources for edge in graph.edges.values())
    return len(graph.nodes[node].shape) == 1 and (last or any(edge.energy == "categorical" for edge in terms))


def picture(network: PCNetwork, node: str, value: Tensor) -> Any:
    """A state (channels, height, width) as a picture: (height, width) or (height, width, 3), 0 to 1."""
    from pcgraph.cli.clamps import preprocess_of
    from pcgraph.datasets.images import denormalise

    pixels = denormalise(value.cpu().float(), preprocess_of(network, node)).clamp(0, 1)
    return pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).numpy()


def query_figures(
    network: PCNetwork, asked: Asked, answer: Answer, answers: Sequence[ItemAnswer]
) -> dict[str, Any]:
    """The pictures: of each image what was given, what was read and what it really was."""
    if importlib.util.find_spec("matplotlib") is None:
        return {}
    from pcgraph.cli.clamps import is_image
    from pcgraph.report.answers import answers_figure, hidden

    rows: dict[str, list[Any]] = {}
    for node in network.graph.nodes:
        if not is_image(network.graph.nodes[node].shape):
            continue
        if node in asked.given and asked.given[node].names[0] != "random":
            shown = [picture(network, node, value) for value in asked.clamp[node]]
            if node in asked.mask:
                part = asked.mask[node].any(dim=0).numpy()
                shown = [hidden(one, part) for one in shown]
            rows[f"{node}\ngiven"] = shown
        if node in answer.read:
            rows[f"{node}\nread"] = [picture(network, node, value) for value in answer[node]]
            if asked.knows(node):
                truth = [picture(network, node, value) for value in asked.given[node].known]
                rows[f"{node}\nin truth"] = truth
    if not rows:
        return {}
    heads = []
    for one in answers:
        read = [f"{best.label} ({best.value:.2f})" for best in one.classes.values()]
        heads.append("\n".join(read) or one.name.rpartition("/")[2].rpartition(":")[2])
    return {"answers": answers_figure(network.spec.name, rows, heads)}


def write(
    folder: Path,
    network: PCNetwork,
    record: Mapping[str, Any],
    asked: Asked,
    answer: Answer,
    answers: Sequence[ItemAnswer],
) -> None:
    """Write the numbers of the run folder."""
    import numpy as np
    import torch

    from pcgraph.report.results import write_run_folder
    from pcgraph.report.trajectory import Trajectory

    energy = torch.stack(list(answer.energy.values())).double().cpu().numpy()  # (terms, steps + 1, items)
    none = np.zeros((0, answer.steps + 1))
    trajectories = [Trajectory(one.name, (), none, energy[:, :, place]) for place, one in enumerate(answers)]
    tensors = {f"given:{node}": value for node, value in asked.clamp.items()}
    tensors |= {f"mask:{node}": value for node, value in asked.mask.items()}
    tensors |= {f"read:{node}": answer[node].cpu() for node in answer.read}
    write_run_folder(folder, network.spec, record, list(answer.energy), [], trajectories, tensors)


def remarks(
    network: PCNetwork, answers: Sequence[ItemAnswer], answer: Answer, figures: Mapping[str, Any]
) -> list[str]:
    """What one should know about the answers."""
    said = []
    for node in answers[0].classes:
        known = [one.classes[node] for one in answers if one.classes[node].right is not None]
        if known:
            said.append(f"{node}: {sum(best.label == best.right for best in known)} of {len(known)} right.")
    if len(network.predictors) and not network.feedback_trained:
        said.append("The weights are random, not trained: the answers mean nothing yet.")
    if not figures and importlib.util.find_spec("matplotlib") is None:
        said.append("No pictures: matplotlib is not installed (pip install 'pcgraph[plot]').")
    rises = sum(one.energy.end > one.energy.start for one in answers)
    if rises:
        said.append(
            f"The energy rose for {rises} of {len(answers)} items: lower the rate, or give it more steps."
        )
    return said
