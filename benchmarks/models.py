"""Real models: read, compared with the models themselves, and their first specs held for 50 steps.

    python benchmarks/models.py --to rows.jsonl                     # all of it: hours on one core
    python benchmarks/models.py --to rows.jsonl --kind torchvision --only resnet18,vgg16
    python benchmarks/models.py --to rows.jsonl --again             # what failed before, once more

Weights are random. Each model is read by the candidate table (of torchvision's classifiers the names are
compared with those of torchvision's own feature extraction); a first spec like that of `pcgraph new` is
built, which compares the drive with the model, output bit for bit and gradient up to rounding; and its
lambda is lowered as `pcgraph new` does. Then 50 steps from another image tell how far the states grow.
One line of JSON a model; a run that was cut off goes on where it was. Each model has a process of its
own, with a limit of CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
import yaml
from torch import nn
from torchvision.models.feature_extraction import get_graph_node_names

import pcgraph as pcg
from pcgraph.analysis.stability import growth
from pcgraph.cli.new import first_spec, hold
from pcgraph.errors import PCGraphError
from pcgraph.tracing import exporting, load_model, suggest_nodes, trace  # noqa: F401  imported once, before forks
from pcgraph.tracing.facts import default_input

BOUND = 3.0
"""No state may grow beyond so many times its first norm."""
STEPS = 50
Shape = tuple[int, ...]
Arguments = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A model to look at.

    Attributes:
        tries: Shape of one image and arguments of the model; the first that it takes counts.
        make: The model itself, of one that no reference names.
        size: Parameters, as far as they are known; large models come last.
    """

    kind: str
    name: str
    tries: tuple[tuple[Shape, Arguments], ...]
    make: Callable[[], nn.Module] | None = None
    size: int = 0


# Segmentation, detection backbones and video.
DENSE: dict[str, Shape] = {
    "fcn_resnet50": (3, 64, 64),
    "deeplabv3_resnet50": (3, 64, 64),
    "deeplabv3_mobilenet_v3_large": (3, 64, 64),
    "lraspp_mobilenet_v3_large": (3, 64, 64),
    "r3d_18": (3, 8, 32, 32),
    "mc3_18": (3, 8, 32, 32),
    "r2plus1d_18": (3, 8, 32, 32),
    "s3d": (3, 16, 224, 224),
}
HUGGING: dict[str, tuple[int, dict[str, Any]]] = {
    "ResNet": (64, {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 16, 32, 32]}),
    "ConvNext": (64, {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 32]}),
    "ConvNextV2": (64, {"depths": [1] * 4, "hidden_sizes": [8, 16, 16, 32]}),
    "ViT": (32, {"num_hidden_layers": 2, "image_size": 32, "patch_size": 8}),
    "DeiT": (32, {"num_hidden_layers": 2, "image_size": 32, "patch_size": 8}),
    "Beit": (32, {"num_hidden_layers": 2, "image_size": 32, "patch_size": 8}),
    "Swin": (64, {"depths": [1, 1], "num_heads": [2, 4], "image_size": 64}),
    "Dinov2": (28, {"num_hidden_layers": 2, "image_size": 28}),
    "MobileNetV1": (64, {"image_size": 64}),
    "MobileNetV2": (64, {"image_size": 64}),
    "MobileViT": (64, {"image_size": 64}),
    "Bit": (64, {"depths": [1] * 4, "hidden_sizes": [32, 64, 64, 64], "embedding_size": 32, "num_groups": 8}),
    "RegNet": (64, {"depths": [1] * 4, "hidden_sizes": [16, 16, 32, 32]}),
    "PoolFormer": (64, {"depths": [1] * 4}),
}
SMALL = [
    "atto",
    "femto",
    "pico",
    "nano",
    "xxs",
    "xxtiny",
    "xtiny",
    "tiny",
    "xs",
    "mini",
    "_t_",
    "_s_",
    "small",
]
"""In timm's names, the smallest first."""


def main() -> None:
    """Look at what was asked for, and count what failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--to", type=Path, required=True, help="File of results, which is added to.")
    parser.add_argument("--kind", choices=("torchvision", "timm", "dense", "transformers"), action="append")
    parser.add_argument("--only", default="", help="Names, with commas between.")
    parser.add_argument("--again", action="store_true", help="Repeat what failed.")
    parser.add_argument("--size", type=int, default=64, help="Side of the image where the model takes it.")
    parser.add_argument("--limit", type=int, default=300, help="CPU seconds a model.")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    entries = [
        entry
        for kind in (torchvision_classifiers, timm_families, dense_and_video, transformers_models)
        for entry in kind(chosen.size)
        if entry.kind in (chosen.kind or [entry.kind])
    ]
    names = set(filter(None, chosen.only.split(",")))
    known = _rows(chosen.to)
    for entry in sorted(entries, key=lambda entry: entry.size):
        if names and entry.name not in names:
            continue
        row = known.get(entry.name)
        if row is None or (chosen.again and _failed(row)):
            row = apart(entry, chosen.limit)
            with chosen.to.open("a") as file:
                file.write(json.dumps(row) + "\n")
            known[entry.name] = row
            print(row, flush=True)
    asked = [known[entry.name] for entry in entries if not names or entry.name in names]
    summarise(asked)
    raise SystemExit(any(map(_failed, asked)))


def _rows(path: Path) -> dict[str, dict[str, Any]]:
    """The last row of each model."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {row["name"]: row for row in map(json.loads, lines)}


def _failed(row: dict[str, Any]) -> bool:
    return "error" in row or not row["growth"] <= BOUND or row.get("names", "equal") != "equal"


def summarise(rows: list[dict[str, Any]]) -> None:
    """Totals by kind, and what failed."""
    for kind in sorted({row["kind"] for row in rows}):
        of = [row for row in rows if row["kind"] == kind]
        held = sum(row.get("growth", float("inf")) <= BOUND for row in of)
        print(f"{kind}: {len(of)} models, {sum('nodes' in row for row in of)} verified, {held} held")
    for row in rows:
        if _failed(row):
            print(row["name"], row.get("error", f"grew {row.get('growth')} times at {row.get('node')}"))


def apart(entry: Entry, limit: int) -> dict[str, Any]:
    """`measure` in a process of its own; what it had found where it was stopped."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
        with os.fdopen(writing, "w") as pipe:
            for facts in measure(entry):
                pipe.write(json.dumps(facts) + "\n")
                pipe.flush()
        os._exit(0)
    os.close(writing)
    row: dict[str, Any] = {"kind": entry.kind, "name": entry.name}
    with os.fdopen(reading) as pipe:
        for line in pipe:
            row.update(json.loads(line))
    _, status = os.waitpid(child, 0)
    if status and "error" not in row:
        row["error"] = f"stopped by signal {status & 127} (limit {limit} s)"
    return row


def measure(entry: Entry) -> Iterator[dict[str, Any]]:
    """Facts about a model, as they are found."""
    errors = []
    for shape, arguments in entry.tries:
        try:
            yield from measure_at(entry, shape, arguments)
            return
        except Exception as fault:
            traced = "" if isinstance(fault, (PCGraphError, AssertionError)) else f"{type(fault).__name__}: "
            errors.append(f"{shape[-1]}: {traced}{str(fault).partition(chr(10))[0][:300]}")
    yield {"error": "; ".join(errors)}


def measure_at(entry: Entry, shape: Shape, arguments: Arguments) -> Iterator[dict[str, Any]]:
    """`new` and some steps, with images of one shape."""
    begun = time.process_time()
    live = None if entry.make is None else entry.make().eval()
    table = trace(entry.name if live is None else live, shape, arguments=arguments, verify=False)
    facts: dict[str, Any] = {"input": shape, **arguments, "places": len(table)}
    if entry.kind == "torchvision":
        facts["names"] = compare_names(entry.name, [row.name for row in table])
    nodes = suggest_nodes(table)
    spec = yaml.safe_load(first_spec(table, nodes, None))
    spec["backbone"]["arguments"] = arguments
    if live is not None:
        del spec["backbone"]["model"]
    traced = time.process_time()
    network = pcg.build(pcg.parse_spec(spec), model=live)
    assert network.drive is not None
    way = "ATen operations" if "torch.ops.aten" in network.drive.code else "modules"
    built = time.process_time()
    yield facts | {
        "way": way,
        "nodes": len(nodes),
        "trace_s": round(traced - begun, 1),
        "build_s": round(built - traced, 1),
    }
    feedback = hold(network)
    yield {"lambda": feedback, "hold_s": round(time.process_time() - built, 1)}
    held = time.process_time()
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    worst = growth(pcg.Scheduler(network), image, STEPS, enough=1e6)
    node = max(worst, key=worst.__getitem__)
    yield {"growth": worst[node], "node": node, "steps_s": round(time.process_time() - held, 1)}


def compare_names(ref: str, found: list[str]) -> str:
    """ "equal" where they are those of torchvision, but that a module called ``ln_1`` keeps its name.

    See `Numbering`.
    """
    model = load_model(ref, meta=True).eval()
    _, expected = get_graph_node_names(model, suppress_diff_warning=True)
    if isinstance(model, torchvision.models.VisionTransformer):
        expected = [re.sub(r"ln(_1)?$", lambda m: "ln_2" if m[1] else "ln_1", name) for name in expected]
        expected = ["encoder.ln" if name == "encoder.ln_1" else name for name in expected]
    missing = [name for name in found if name not in expected]
    same = not missing and found == [name for name in expected if name in set(found)]
    return "equal" if same else f"others: {missing[:3]}"


def torchvision_classifiers(side: int) -> Iterator[Entry]:
    """All of them."""
    for name in torchvision.models.list_models(module=torchvision.models):
        size = max(one.meta["num_params"] for one in torchvision.models.get_model_weights(name))
        ref = f"torchvision:{name}"
        yield Entry("torchvision", ref, _tries(ref, side, {}), size=size)


def timm_families(side: int) -> Iterator[Entry]:
    """Of each module of timm one model that its name calls small."""
    for family in timm.list_modules():
        if names := timm.list_models(module=family):
            name = min(names, key=_rank)
            given = {"img_size": side} if timm.get_pretrained_cfg(name).fixed_input_size else {}
            yield Entry("timm", f"timm:{name}", _tries(f"timm:{name}", side, given))


def _rank(name: str) -> tuple[int, int, str]:
    rank = next((place for place, word in enumerate(SMALL) if word in f"{name}_"), len(SMALL))
    return rank, len(name), name


def _tries(ref: str, side: int, given: Arguments) -> tuple[tuple[Shape, Arguments], ...]:
    own = default_input(ref)
    return (((own[0], side, side), given), (own, {})) if side < own[-1] else ((own, {}),)


def dense_and_video(_: int) -> Iterator[Entry]:
    """Segmentation, detection backbones and video."""
    from torchvision.models.detection import backbone_utils

    for name, shape in DENSE.items():
        yield Entry("dense", f"torchvision:{name}", ((shape, {}),))
    make = {
        "resnet18 with FPN": lambda: backbone_utils.resnet_fpn_backbone(
            backbone_name="resnet18", weights=None
        ),
        "mobilenet_v3_small with FPN": lambda: backbone_utils.mobilenet_backbone(
            backbone_name="mobilenet_v3_small", weights=None, fpn=True
        ),
    }
    for name, one in make.items():
        yield Entry("dense", name, (((3, 64, 64), {}),), one)


def transformers_models(_: int) -> Iterator[Entry]:
    """Small configurations."""
    for name, (side, config) in HUGGING.items():
        ref = f"transformers:{name}ForImageClassification"

        def make(ref: str = ref, config: dict[str, Any] = config) -> nn.Module:
            return load_model(ref, arguments=config)

        yield Entry("transformers", ref, (((3, side, side), {}),), make)


if __name__ == "__main__":
    main()
