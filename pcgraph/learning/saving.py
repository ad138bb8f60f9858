"""What was learned, as files that a spec loads."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from pcgraph.datasets import preprocess_for
from pcgraph.files import whole_file, write_text
from pcgraph.network import PCNetwork
from pcgraph.spec import Spec, to_yaml
from pcgraph.spec.dump import rooted

PREDICTORS, BACKBONE, SPEC = "weights.safetensors", "backbone.safetensors", "spec.yaml"


def save_network(
    network: PCNetwork, folder: Path, *, backbone: bool = False, spec: Spec | None = None
) -> None:
    """Write the weights of a network and a spec that loads them.

    The spec names the new files relative to itself, so the folder can be moved; all other files it names
    by their full paths. A backbone that the program handed over as an object cannot be named; its
    weights are written all the same.

    Args:
        network: What was trained.
        folder: Where to; it exists.
        backbone: Whether the backbone's weights were trained, too.
        spec: What to write; left out, the network's.
    """
    spec = rooted(network.spec if spec is None else spec)
    update: dict[str, object] = {}
    if len(network.predictors):
        network.save_weights(folder / PREDICTORS)
        update["weights"] = PREDICTORS
    if backbone and network.drive is not None and spec.backbone is not None:
        tensors = {  # each a tensor of its own, for shared weights have several names
            name: t.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, t in network.drive.model.state_dict().items()
        }
        with whole_file(folder / BACKBONE) as partial:
            save_file(tensors, partial)
        if spec.backbone.model is not None:
            fields = {"weights": BACKBONE, "match": "name", "preprocess": preprocess_for(spec.backbone)}
            update["backbone"] = spec.backbone.model_copy(update=fields)
    write_text(folder / SPEC, to_yaml(spec.model_copy(update=update)))
