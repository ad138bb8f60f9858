"""How the images of a backbone are prepared."""

from __future__ import annotations

import torch

from pcgraph.datasets.images import PIXELS
from pcgraph.spec import Backbone, Preprocess
from pcgraph.tracing.facts import default_input, preprocess_of


def preprocess_for(backbone: Backbone | None) -> Preprocess:
    """How to prepare photographs: as the spec says, as the weights want it, or as is customary.

    What weights want is said for the size of their own input; for another one it is scaled. A network
    without a backbone gets plain pixels.
    """
    if backbone is None:
        return PIXELS
    if backbone.preprocess is not None:
        return backbone.preprocess
    wanted = _wanted(backbone)
    if backbone.input[0] == 1 and len(wanted.mean) > 1:  # a grey picture takes their averages
        mean, std = (float(torch.tensor(values).mean()) for values in (wanted.mean, wanted.std))
        return wanted.model_copy(update={"mean": (mean,), "std": (std,)})
    return wanted


def _wanted(backbone: Backbone) -> Preprocess:
    if backbone.model is None:
        return Preprocess()
    wanted = preprocess_of(backbone.model, backbone.weights)
    if wanted is None or wanted.resize is None:
        return wanted or Preprocess()
    scale = min(backbone.input[-2:]) / min(default_input(backbone.model, backbone.weights)[-2:])
    return wanted.model_copy(update={"resize": round(wanted.resize * scale)})
