"""``pcgraph tune``: the dynamics learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcgraph.cli.options import (
    AsJson,
    ClassOrder,
    Device,
    Download,
    Epochs,
    FastIfItPays,
    Force,
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
from pcgraph.cli.training import Training, one_voice
from pcgraph.cli.training_data import settings_of, training_data

if TYPE_CHECKING:
    from rich.table import Table

    from pcgraph.datasets import ImageData, Samples
    from pcgraph.dynamics.gains import Predify
    from pcgraph.learning.dynamics import DynamicsTask


def tune(
    spec: SpecFile,
    data: TrainingData = None,
    epochs: Epochs = None,
    batch: TrainingBatch = None,
    lr: Rate = None,
    precision: TrainingPrecision = None,
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
    fast: FastIfItPays = False,
    trust: Trust = False,
    no_verify: NoVerify = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Tune beta, lambda, memory and alpha so that the steps classify, for a noise: see 'tune' in the spec.

    Writes a run folder as 'pcgraph train' does. Its spec.yaml holds the tuned values as plain numbers, those
    that are printed, under 'dynamics' and as 'gain' and 'error' of edges. The same command runs in several
    processes.
    """
    given = read_spec(spec)
    from pcgraph.training.accelerator import is_main_process

    main = is_main_process()
    screen = Screen(as_json and main, quiet or not main)
    with one_voice(), screen.working("Building the network"):
        from pcgraph.building.network import build
        from pcgraph.learning.dynamics import DynamicsTask, with_noise
        from pcgraph.spec import Tune

        settings = settings_of(
            given.tune or Tune(), data=data, epochs=epochs, batch=batch, lr=lr, precision=precision
        )
        network = build(given, trust=trusted(trust), seed=seed, verify=not no_verify)
        task = DynamicsTask(network, settings)
        images, held = (
            with_noise(pictures(part), settings.noise)
            for part in training_data(network, settings, seed, download, skip_broken, classes=classes)
        )
    training = Training("tune", given, settings, out, seed, device, workers, tracker, resume, force, fast)
    means = training.run(screen, task, images, held)
    screen.remark(*values_tables(task), *worse(means))


def pictures(data: ImageData | Samples) -> ImageData:
    """The data, if they are pictures, on which noise can be drawn.

    Raises:
        InputError: They are tensors.
    """
    from pcgraph.datasets import ImageData
    from pcgraph.errors import Fault, InputError

    if not isinstance(data, ImageData):
        message = f"'{data.name}' holds tensors, and noise is drawn on pictures"
        raise InputError(Fault(message, hint="From Python, tune on a data set that draws its own noise."))
    return data


def values_tables(task: DynamicsTask) -> list[Table | str]:
    """The values before and after, as the spec is written."""
    from pcgraph.dynamics.gains import Predify

    rule, learns = task.network.dynamics, task.settings.learns
    assert isinstance(rule, Predify)
    found: list[Table | str] = [nodes_table(task, rule)] if "dynamics" in learns else []
    if task.gains_before:
        found.append(edges_table(task))
    elif "edges" in learns:
        found.append("No edge has a gain of its own that could be tuned.")
    return found


def edges_table(task: DynamicsTask) -> Table:
    """The gains that edges have of their own."""
    from rich.table import Table

    table = Table("edge", "gain", "error")
    for name, before in task.gains_before.items():
        edge = task.network.graph.edges[name]
        after = {"gain": edge.gain, "error": edge.error}
        shown = [f"{before[n]:.6g} -> {after[n]:.6g}" if n in before else "" for n in after]
        table.add_row(name, *shown)
    return table


def nodes_table(task: DynamicsTask, rule: Predify) -> Table:
    """The values of the nodes."""
    from rich.table import Table

    from pcgraph.report.advice import inert_reason

    names = {"feedforward": "beta", "feedback": "lambda", "error": "alpha"}
    before, after = task.before, rule.values()
    table = Table("node", *names.values())
    for node in task.dynamics.nodes:
        shown = [f"{float(before[node, n]):.6g} -> {float(after[node, n]):.6g}" for n in names]
        inert = [inert_reason(task.network, node, n) for n in names]
        told = [f"(no effect: {why})" if why else one for one, why in zip(shown, inert, strict=True)]
        table.add_row(node, *told)
    return table


def worse(epochs: list[dict[str, dict[str, float]]]) -> list[str]:
    """A warning if what was tuned answers fewer held-out images rightly than the plain network."""
    last = epochs[-1].get("validation", {}) if epochs else {}
    tuned, plain = last.get("accuracy"), last.get("accuracy at step 0")
    if tuned is None or plain is None or tuned >= plain:
        return []
    return [
        f"Warning: with the tuned dynamics {tuned:.1%} of the held-out images are answered rightly, "
        f"by the plain network {plain:.1%}."
    ]
