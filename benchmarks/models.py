"""Read real models, and compare what was read with the models themselves.

    python benchmarks/models.py                              # all of it: hours on one core
    python benchmarks/models.py --kind torchvision --only resnet18,vgg16
    python benchmarks/models.py --kind timm --out table.md

Each model has random weights and is read by the candidate table (names, shapes) and by a drive cut at the
suggested nodes, which is compared with the model: output bit for bit, gradient up to rounding. For
torchvision's classifiers the names are compared with those of torchvision's own feature extraction.
"""

from __future__ import annotations

import argparse
import re
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models.feature_extraction import get_graph_node_names

from pcgraph.errors import PCGraphError
from pcgraph.tracing import Drive, load_model, suggest_nodes, trace
from pcgraph.tracing.facts import default_input

KINDS = ("torchvision", "timm", "dense", "transformers")
# Segmentation, detection backbones and video.
DENSE: dict[str, tuple[int, ...]] = {
    "fcn_resnet50": (3, 64, 64),
    "deeplabv3_resnet50": (3, 64, 64),
    "deeplabv3_mobilenet_v3_large": (3, 64, 64),
    "lraspp_mobilenet_v3_large": (3, 64, 64),
    "r3d_18": (3, 8, 32, 32),
    "mc3_18": (3, 8, 32, 32),
    "r2plus1d_18": (3, 8, 32, 32),
    "s3d": (3, 16, 224, 224),
}
HUGGING: dict[str, tuple[str, int, dict[str, Any]]] = {
    "ResNet": (
        "ResNetForImageClassification",
        64,
        {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 16, 32, 32]},
    ),
    "ConvNext": (
        "ConvNextForImageClassification",
        64,
        {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 32]},
    ),
    "ConvNextV2": (
        "ConvNextV2ForImageClassification",
        64,
        {"depths": [1] * 4, "hidden_sizes": [8, 16, 16, 32]},
    ),
    "ViT": ("ViTForImageClassification", 32, {"num_hidden_layers": 2, "image_size": 32, "patch_size": 8}),
    "DeiT": ("DeiTForImageClassification", 32, {"num_hidden_layers": 2, "image_size": 32, "patch_size": 8}),
    "BeiT": ("BeitForImageClassification", 32, {"num_hidden_layers": 2, "image_size": 32, "patch_size": 8}),
    "Swin": ("SwinForImageClassification", 64, {"depths": [1, 1], "num_heads": [2, 4], "image_size": 64}),
    "Dinov2": ("Dinov2ForImageClassification", 28, {"num_hidden_layers": 2, "image_size": 28}),
    "MobileNetV1": ("MobileNetV1ForImageClassification", 64, {"image_size": 64}),
    "MobileNetV2": ("MobileNetV2ForImageClassification", 64, {"image_size": 64}),
    "MobileViT": ("MobileViTForImageClassification", 64, {"image_size": 64}),
    "RegNet": ("RegNetForImageClassification", 64, {"depths": [1] * 4, "hidden_sizes": [16, 16, 32, 32]}),
    "PoolFormer": ("PoolFormerForImageClassification", 64, {"depths": [1] * 4}),
}


def main() -> None:
    """Read what was asked for, one line each."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--kind", choices=KINDS, action="append", help="Left out: all.")
    options.add_argument("--only", default="", help="Names, with commas between.")
    options.add_argument("--out", type=Path, help="Add the rows to this file, too.")
    given = options.parse_args()
    warnings.simplefilter("ignore")
    chosen = set(filter(None, given.only.split(",")))
    failed = 0
    for kind in given.kind or KINDS:
        for name, make, shape, names in globals()[f"_{kind}"]():
            if chosen and name not in chosen:
                continue
            row, good = check(name, make, shape, names)
            failed += not good
            print(row, flush=True)
            if given.out:
                with given.out.open("a") as file:
                    file.write(row + "\n")
    print(f"{failed} failed")
    raise SystemExit(bool(failed))


Entry = tuple[str, Callable[[], nn.Module], tuple[int, ...], Callable[[nn.Module], list[str]] | None]


def check(
    name: str,
    make: Callable[[], nn.Module],
    shape: tuple[int, ...],
    names: Callable[[nn.Module], list[str]] | None,
) -> tuple[str, bool]:
    """One row of the table, and whether all is well."""
    begun = time.process_time()
    try:
        torch.manual_seed(0)
        model = make().eval().requires_grad_(False)
        table = trace(model, shape, verify=False)
        if names is not None:
            expected = names(model)
            assert [row.name for row in table] == [n for n in expected if n in {row.name for row in table}]
            missing = [row.name for row in table if row.name not in expected]
            assert not missing, f"other names: {missing[:3]}"
        nodes = suggest_nodes(table)
        drive = Drive(model, nodes, shape, owned=True)
        way = "ATen operations" if "torch.ops.aten" in drive.code else "modules"
    except (PCGraphError, AssertionError, RuntimeError, ValueError) as error:
        return f"| {name} | FAILED: {str(error).splitlines()[0][:150]} |", False
    took = time.process_time() - begun
    return f"| {name} | {way} | {len(table)} places | {len(nodes)} nodes | {took:.1f} s |", True


def _torchvision() -> Iterator[Entry]:
    for name in torchvision.models.list_models(module=torchvision.models):
        ref = f"torchvision:{name}"
        yield name, lambda ref=ref: load_model(ref), default_input(ref), torchvision_names


def torchvision_names(model: nn.Module) -> list[str]:
    """The names of torchvision, but that a module called ``ln_1`` keeps its name; see `Numbering`."""
    _, names = get_graph_node_names(model, suppress_diff_warning=True)
    if isinstance(model, torchvision.models.VisionTransformer):
        names = [re.sub(r"ln(_1)?$", lambda m: "ln_2" if m[1] else "ln_1", name) for name in names]
        names = ["encoder.ln" if name == "encoder.ln_1" else name for name in names]
    return list(names)


def _timm() -> Iterator[Entry]:
    """The smallest model of each module of timm's."""
    import timm

    for family in timm.list_modules():
        sizes = {}
        for name in timm.list_models(module=family):
            try:
                model = load_model(f"timm:{name}", meta=True)
            except PCGraphError:
                continue
            sizes[name] = sum(parameter.numel() for parameter in model.parameters())
        if sizes:
            name = min(sizes, key=sizes.__getitem__)
            ref = f"timm:{name}"
            yield f"{family}: {name}", lambda ref=ref: load_model(ref), default_input(ref), None


def _dense() -> Iterator[Entry]:
    from torchvision.models.detection.backbone_utils import mobilenet_backbone, resnet_fpn_backbone

    for name, shape in DENSE.items():
        yield name, lambda name=name: load_model(f"torchvision:{name}"), shape, None
    yield "resnet_fpn", lambda: resnet_fpn_backbone(backbone_name="resnet18", weights=None), (3, 64, 64), None
    make = mobilenet_backbone
    yield (
        "mobilenet_fpn",
        lambda: make(backbone_name="mobilenet_v3_small", weights=None, fpn=True),
        (3, 64, 64),
        None,
    )


def _transformers() -> Iterator[Entry]:
    for name, (kind, side, config) in HUGGING.items():
        ref = f"transformers:{kind}"
        yield name, lambda ref=ref, config=config: load_model(ref, arguments=config), (3, side, side), None


if __name__ == "__main__":
    main()
