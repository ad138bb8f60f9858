"""What was learned, as files that a spec loads."""

from __future__ import annotations

from pathlib import Path

from pcgraph.datasets import preprocess_for
from pcgraph.files import write_text
from pcgraph.files.digest import digest
from pcgraph.files.tensors import save_tensors
from pcgraph.network import PCNetwork
from pcgraph.spec import Spec, to_yaml
from pcgraph.spec.dump import pinned, rooted
from pcgraph.spec.weights import Checkpoint, PredictorFile

PREDICTORS, BACKBONE, SPEC = "weights.safetensors", "backbone.safetensors", "spec.yaml"


def save_network(
    network: PCNetwork, folder: Path, *, backbone: bool = False, spec: Spec | None = None
) -> None:
    """Write the weights of a network and a spec that loads them.

    The spec names the new files relative to itself, so the folder can be moved; all other files it names
    by their full paths. Of weight files it says the digest, which `build` compares. A backbone that the
    program handed over as an object cannot be named; `build` loads its weights into the one that it is given.

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
        update["weights"] = PredictorFile(file=PREDICTORS, sha256=digest(folder / PREDICTORS))
    if backbone and network.drive is not None and spec.backbone is not None:
        save_tensors(network.drive.model.state_dict(), folder / BACKBONE)
        weights = Checkpoint(file=BACKBONE, sha256=digest(folder / BACKBONE))
        shape, fields = spec.backbone.input, dict[str, object](weights=weights, match="name")
        preprocess = preprocess_for(spec.backbone)
        if len(shape) == 3 and len(preprocess.mean) == shape[0]:  # else it is no image's
            fields["preprocess"] = preprocess
        update["backbone"] = spec.backbone.model_copy(update=fields)
    write_text(folder / SPEC, to_yaml(pinned(spec.model_copy(update=update))))
