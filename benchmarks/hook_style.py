"""The baseline: predictive coding bolted onto a model with forward hooks, written for clarity.

It works as hook-based packages do, and is as fast as they are: every step is a whole forward pass of
the model; a hook at each node replaces the module's output by the node's state; each prediction's
error is differentiated with `torch.autograd.grad` on a graph that is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class HookNetwork:
    """A chain of nodes: node i predicts node i - 1, the first the image.

    Args:
        model: The backbone.
        modules: Qualified names of the modules whose outputs are nodes, from the bottom up.
        predictors: One module a node.
        gains: For each node feedforward (beta), feedback (lambda) and error (alpha).
        reach: C of each prediction.
    """

    def __init__(
        self,
        model: nn.Module,
        modules: Sequence[str],
        predictors: Sequence[nn.Module],
        gains: Sequence[Mapping[str, float]],
        reach: Sequence[float],
    ) -> None:
        self.model = model.eval()
        self.predictors = predictors
        self.gains = gains
        self.scale = [2 / math.sqrt(count) for count in reach]
        count = len(modules)
        self.state: list[Tensor | None] = [None] * count
        self.prediction: list[Tensor | None] = [None] * count
        self.gradient: list[Tensor | None] = [None] * count
        self.image: Tensor | None = None
        self.differentiable = False
        for index, name in enumerate(modules):
            module = model.get_submodule(name)
            module.register_forward_hook(lambda _module, _inputs, output, i=index: self._update(i, output))

    def _update(self, index: int, drive: Tensor) -> Tensor:
        gain, old = self.gains[index], self.state[index]
        if old is None:
            new = drive
        else:
            back = self.prediction[index + 1] if index + 1 < len(self.state) else None
            share = gain["feedback"] if back is not None else 0.0
            new = gain["feedforward"] * drive + (1 - gain["feedforward"] - share) * old
            if back is not None:
                new = new + share * back
            new = new - gain["error"] * self.scale[index] * self.gradient[index]
        keep = self.differentiable
        state = new if keep and new.requires_grad else new.detach().requires_grad_()
        target = self.image if index == 0 else self.state[index - 1]
        prediction = self.predictors[index](state)
        error = F.mse_loss(prediction, target if keep else target.detach())
        (gradient,) = torch.autograd.grad(error, state, retain_graph=True, create_graph=keep)
        self.gradient[index] = gradient * (prediction.numel() / 2)  # of half the summed squares
        self.state[index], self.prediction[index] = state, prediction if keep else prediction.detach()
        return state

    def run(self, images: Tensor, steps: int, differentiable: bool = False) -> Tensor:
        """The output after ``steps`` steps; with its graph through all of them, if it is asked for."""
        self.state = [None] * len(self.state)
        self.image, self.differentiable = images, differentiable
        for _ in range(steps + 1):
            output = self.model(images)
        return output if differentiable else output.detach()


def hook_gradient(hooks: HookNetwork, given: Tensor, steps: int) -> Tensor:
    """Of the mean square of the last output, for the images, through all steps."""
    output = hooks.run(given, steps, differentiable=True)
    return torch.autograd.grad(output.square().mean(), given)[0]


def images(batch: int) -> Tensor:
    """Random ones, always the same."""
    return torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(1))
