"""Small networks for the tests: those of the goldens, and one for each trap of tracing."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pcgraph as pcg
from tests.goldens.nets import Residual, chain

__all__ = ["INPLACE", "DictOutput", "Residual", "Shared", "TupleOutput", "chain", "residual", "settled"]


RULES: dict[str, dict[str, Any]] = {
    "predify": {"rule": "predify", "error": 0.1},
    "energy": {"rule": "energy", "rate": 0.05},
    "momentum": {"rule": "energy", "rate": 0.02, "optimizer": "momentum"},
    "adam": {"rule": "energy", "rate": 0.02, "optimizer": "adam"},
}


def residual(rule: str = "predify", order: str = "sweep", *, seed: int = 0) -> pcg.PCNetwork:
    """A network on a backbone with skips, with a delay of 3."""
    spec = {
        "name": "residual",
        "backbone": {"input": [3, 16, 16]},
        "nodes": {"e1": "stem", "e2": "block1.conv2", "e3": "block2.conv2"},
        "feedback": ["chain", {"source": "e3", "target": "input", "delay": 3}],
        "dynamics": RULES[rule],
        "schedule": {"order": order},
    }
    torch.manual_seed(seed)
    return pcg.build(pcg.parse_spec(spec), model=Residual())


def settled(model: nn.Module) -> nn.Module:
    """The model with batch norm statistics and affine weights that are not the trivial ones."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


class Shared(nn.Module):
    """One convolution that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        x = self.act(self.conv(x))
        return self.head(x.mean((2, 3)))


class TupleOutput(Shared):
    """Gives its features besides its output."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.conv(x)
        return self.head(features.mean((2, 3))), features


class DictOutput(Shared):
    """Gives a nested structure."""

    def forward(self, x: Tensor) -> dict[str, object]:
        features = self.conv(x)
        return {"out": self.head(features.mean((2, 3))), "more": [features, 3]}


class _Conv(nn.Module):
    """A convolution, then whatever the subclass does with its value ``x``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))

    def act(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class InplaceModule(_Conv):
    def act(self, x: Tensor) -> Tensor:
        y = self.relu(x)
        return 2 * x + y


class InplaceKeyword(_Conv):
    def act(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(x, 0.3, inplace=True)
        return 2 * x + y


class InplaceByPlace(_Conv):
    def act(self, x: Tensor) -> Tensor:
        y = F.relu(x, True)
        return 2 * x + y


class AugmentedWithAlias(_Conv):
    def act(self, x: Tensor) -> Tensor:
        y = x
        x += 1.5
        x *= 2
        return x * y


class OperatorFunction(_Conv):
    def act(self, x: Tensor) -> Tensor:
        y = operator.isub(x, 0.5)
        return x + y


class ResidualAdd(_Conv):
    def act(self, x: Tensor) -> Tensor:
        y = x * 3
        x += y
        return x + y


class Methods(_Conv):
    def act(self, x: Tensor) -> Tensor:
        x.mul_(2).add_(1).clamp_(min=0.1)
        return x + x.size(0)


class MethodsWithoutTwin(_Conv):
    def act(self, x: Tensor) -> Tensor:
        y = x + 1
        y.copy_(x).mul_(3)
        z = x * 2
        z.zero_()
        return x + y + z


class UnderscoreFunction(_Conv):
    def act(self, x: Tensor) -> Tensor:
        torch.relu_(x)
        F.elu_(x, 0.5)
        return x + 1


class OutArgument(_Conv):
    def act(self, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        torch.add(x, 1, out=y)
        return y * x


class SetItem(_Conv):
    def act(self, x: Tensor) -> Tensor:
        x[:, 0] = x[:, 1] * 2
        return x + 1


class ThroughDropout(_Conv):
    def act(self, x: Tensor) -> Tensor:
        y = self.drop(x)  # the same tensor in eval mode
        z = self.relu(y)
        return x + 2 * y + z


class SizesAreNoTensors(_Conv):
    def act(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        m = n
        n += 1
        return x.view(m, -1) * n


class ViewOfUnused(_Conv):
    def act(self, x: Tensor) -> Tensor:
        y = x.view(x.shape[0], -1)
        y += 1
        return y


class InputItself(_Conv):
    def forward(self, x: Tensor) -> Tensor:
        x += 1
        return self.conv(x) + x.mean()


INPLACE: tuple[type[nn.Module], ...] = (
    InplaceModule,
    InplaceKeyword,
    InplaceByPlace,
    AugmentedWithAlias,
    OperatorFunction,
    ResidualAdd,
    Methods,
    MethodsWithoutTwin,
    UnderscoreFunction,
    OutArgument,
    SetItem,
    ThroughDropout,
    SizesAreNoTensors,
    ViewOfUnused,
    InputItself,
)
