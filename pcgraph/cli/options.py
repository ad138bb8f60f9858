"""Options and arguments that several commands share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pcgraph.spec import Spec

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only: no remarks, no progress.")]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Import 'python:' objects (this runs their code), from this folder too."),
]
NoVerify = Annotated[
    bool,
    typer.Option("--no-verify", help="Do not compare what is read of the model with the model itself first."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what exists already.")]
SpecFile = Annotated[
    str,
    typer.Argument(
        metavar="SPEC", help="A spec file (.yaml, .json, .toml), or the name of a spec that pcgraph ships."
    ),
]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="torchvision:NAME, timm:NAME, transformers:NAME, or python:PACKAGE.MODULE:NAME (--trust).",
    ),
]
InputShape = Annotated[
    str | None,
    typer.Option(
        "--input", metavar="SHAPE", help="Shape of one image, such as 3,224,224. Left out: the model's own."
    ),
]
Steps = Annotated[
    int | None, typer.Option(min=0, max=10**9, help="Steps. Left out: the spec's.", show_default=False)
]
Batch = Annotated[int, typer.Option(min=1, help="Images at a time.")]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="What a run may take besides the network, such as 2GB: batches are cut into parts that fit, "
        "with the same results. Attacks take what they need.",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of all that is random.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ..., or auto: cuda where there is one.")]
Workers = Annotated[int, typer.Option(min=0, max=1000, help="Processes that read images ahead.")]
Compiled = Annotated[
    bool,
    typer.Option("--compile", help="Compile the steps first: it takes a minute or two, then each is faster."),
]
CompiledLearning = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the work of a batch, where a network learns by its energy: that takes a minute the "
        "first time, then each batch is faster.",
    ),
]
Fast = Annotated[
    bool,
    typer.Option(
        "--fast",
        help="Measure which way of computing is the fastest on this machine, and take it. The first time "
        "that takes minutes, as compiling is tried; later processes know the answer.",
    ),
]
FastIfItPays = Annotated[
    bool,
    typer.Option(
        "--fast",
        help="Measure which way of computing is the fastest on this machine, and take it; compiling is tried "
        "where it can pay off within this command. Later processes know the answer.",
    ),
]
FastStudy = Annotated[
    bool,
    typer.Option(
        "--fast",
        help="Measure first, for each wiring, whether it is trained, tuned and measured faster channels-last "
        "on this machine, and do it so. Results are then those of other machines up to rounding alone.",
    ),
]
ClassOrder = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="CLASSES",
        help="The classes in the order of the network's outputs: a text file with one name a line, names "
        "with commas between them, or imagenet. Left out: the spec's, or else the data's own order.",
        show_default=False,
    ),
]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Leave out image files that are broken.")]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Take a random choice of so many images.", show_default=False),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The run folder. Left out: runs/NAME-TIME.", show_default=False),
]

# ---- of the commands that train ----------------------------------------------------------------------

TrainingData = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="digits, photos, folder:PATH, imagenet:PATH, webdataset:PATH, huggingface:PATH, mnist, cifar10, "
        "cifar100 (with :PATH, or --download), or a .npy, .npz, .safetensors or .pt file of inputs as the "
        "network takes them, and perhaps their classes. Left out: the spec's.",
        show_default=False,
    ),
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Epochs. Left out: the spec's.", show_default=False)]
TrainingBatch = Annotated[
    int | None,
    typer.Option(
        "--batch", min=1, help="Images a batch, over all processes. Left out: the spec's.", show_default=False
    ),
]
Rate = Annotated[
    float | None, typer.Option("--lr", help="Learning rate. Left out: the spec's.", show_default=False)
]
TrainingPrecision = Annotated[
    str | None,
    typer.Option(
        "--precision", help="float32, bfloat16 or float16. Left out: the spec's.", show_default=False
    ),
]
Tracker = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Where the losses go besides losses.csv: tensorboard (the default, where it is installed), "
        "wandb, mlflow or another of accelerate's trackers; 'none' for nowhere. Repeat it for several.",
        show_default=False,
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Fetch MNIST or CIFAR if they are not there.")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on from the last checkpoint in --out; without one, begin. The end is the same, bit for bit.",
    ),
]

# ---- what is made of them ----------------------------------------------------------------------------


def parse_shape(text: str) -> tuple[int, ...]:
    """Read ``3,224,224``."""
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise typer.BadParameter(f"expected whole numbers such as 3,224,224, got '{text}'")
    return shape


def input_shape(text: str | None) -> tuple[int, ...] | None:
    """The shape that ``--input`` gives, if it is given."""
    return None if text is None else parse_shape(text)


def trusted(trust: bool) -> bool:
    """Let trusted objects be found in the current folder, as ``python -m`` does; gives ``trust``."""
    import sys

    if trust and "" not in sys.path:
        sys.path.insert(0, "")
    return trust


def read_spec(reference: str) -> Spec:
    """Load a spec file, or the shipped spec of that name.

    Raises:
        SpecError: There is no such spec, or it is not valid.
    """
    from pcgraph.spec import load_spec

    return load_spec(reference)


def beside_spec(weights: str | None, spec: Path) -> str | None:
    """A weight file as a spec names it: seen from the spec's folder. Other weights stay as they are."""
    from pcgraph.spec.weights import is_file_reference, shifted_file

    if weights is None or not is_file_reference(weights):
        return weights
    return shifted_file(weights, os.path.relpath(Path(), spec.parent))


def class_order(text: str | None, spec: Spec) -> Sequence[str] | None:
    """The order of the classes: what ``--classes`` says, or the spec.

    Raises:
        InputError: There is no such file, or it holds no names of classes.
    """
    from pcgraph.datasets.classes import classes_of, read_classes

    return classes_of(spec) if text is None else read_classes(text)


def choice(images: int, limit: int, seed: int) -> list[int]:
    """A random choice of images, in their order."""
    from pcgraph.datasets.data import choice

    return choice(images, limit, seed)
