"""The networks that against.py trains, as lists of layers that both sides build theirs from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pcgraph.datasets import digits

Layer = dict[str, Any]


@dataclass(frozen=True)
class Learner:
    """A network, and how it learns.

    Attributes:
        shape: Of an image.
        layers: From the image up. ``dense``: outputs and activation. ``conv``: channels, activation and
            padding of a 3x3 kernel, then the maximum of each 2x2.
        rate: Of inference.
        lr: Of Adam.
        images: Of an epoch; None for all digits.
        apart: How far its weights may be apart after the first epoch, of the change that this made.
    """

    shape: tuple[int, ...]
    layers: list[Layer]
    rate: float
    lr: float
    images: int | None
    apart: dict[str, float]

    def spec(self, steps: int) -> dict[str, Any]:
        """What pcgraph builds."""
        nodes = {"n0": {"shape": self.shape}}
        edges = []
        for level, (layer, shape) in enumerate(zip(self.layers, self._shapes(), strict=True), 1):
            nodes[f"n{level}"] = {"shape": shape}
            predictor: list[Any] = ["Linear"]
            if layer["kind"] == "conv":
                predictor = [{"Conv2d": {"kernel_size": 3, "padding": layer["padding"]}}]
            elif len(nodes[f"n{level - 1}"]["shape"]) > 1:
                predictor = ["Flatten", "Linear"]
            if layer["activation"]:
                predictor.append({"tanh": "Tanh", "relu": "ReLU"}[layer["activation"]])
            if layer["kind"] == "conv":
                predictor.append({"MaxPool2d": {"kernel_size": 2}})
                predictor[0]["Conv2d"]["out_channels"] = layer["outputs"]
            edges.append({"source": f"n{level - 1}", "target": f"n{level}", "predictor": predictor})
        dynamics = {"rule": "energy", "rate": self.rate}
        schedule = {"order": "synchronous", "steps": steps}
        return {"name": "learner", "nodes": nodes, "edges": edges, "dynamics": dynamics, "schedule": schedule}

    def data(self, batch: int, most: int | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Images and labels of whole batches, ``most`` of them or as many as an epoch has."""
        data = digits()
        images, labels = data.train_images, F.one_hot(data.train_labels, 10)
        count = min(len(images), most or self.images or len(images)) // batch * batch
        images, labels = images[:count].to(dtype), labels[:count].to(dtype)
        if len(self.shape) == 1:
            return images.flatten(1), labels
        room = (self.shape[1] - images.shape[2]) // 2
        return F.pad(images, [room] * 4).expand(-1, *self.shape).contiguous(), labels

    def _shapes(self) -> list[list[int]]:
        """Of the state that each layer predicts."""
        shapes = []
        side = self.shape[-1]
        for layer in self.layers:
            if layer["kind"] == "conv":
                side = (side + 2 * layer["padding"] - 2) // 2
                shapes.append([layer["outputs"], side, side])
            else:
                shapes.append([layer["outputs"]])
        return shapes


def _dense(outputs: int, activation: str | None) -> Layer:
    return {"kind": "dense", "outputs": outputs, "activation": activation}


def _conv(outputs: int, padding: int = 1) -> Layer:
    return {"kind": "conv", "outputs": outputs, "activation": "relu", "padding": padding}


LEARNERS = {
    "layered": Learner(
        (784,),
        [_dense(256, "tanh"), _dense(64, "tanh"), _dense(10, None)],
        rate=0.1,
        lr=1e-3,
        images=None,
        apart={"float32": 1e-4, "float64": 1e-10},
    ),
    # as in PCX's benchmarks (Pinchetti et al. 2024, "Benchmarking predictive coding networks - made simple")
    "vgg5": Learner(
        (3, 32, 32),
        [_conv(128), _conv(256), _conv(512), _conv(512, padding=0), _dense(10, None)],
        rate=0.3,
        lr=1e-4,
        images=128,
        # Adam's first steps have the sign of gradients that in float32 are partly rounding
        apart={"float32": 0.5, "float64": 1e-6},
    ),
}
