"""Energies: what a prediction costs, given the state that it predicts.

All three are minus the logarithm of a density, up to a constant, with the canonical link ``g`` between
the prediction ``mu`` and the mean. Each therefore has the same gradient for the prediction,
``dE/dmu = -(x - g(mu))``, and they differ in what draws the state, ``dE/dx``.

| energy | E(x, mu) | g(mu) | dE/dx |
|---|---|---|---|
| ``gaussian`` | ``(x - mu)^2 / 2`` | ``mu`` | ``x - mu`` |
| ``categorical`` | ``-x log softmax(mu)`` | ``softmax(mu)`` | ``-log softmax(mu)`` |
| ``bernoulli`` | ``softplus(mu) - x mu`` | ``sigmoid(mu)`` | ``-mu`` |
"""

from __future__ import annotations

import math
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Kind = Literal["gaussian", "categorical", "bernoulli"]
Precision = float | tuple[float, ...] | Literal["learned"]


class Energy(Protocol):
    """One row of the table above, for states and predictions of shape (batch, *shape)."""

    def mean(self, mu: Tensor) -> Tensor:
        """``g(mu)``: the state that the prediction expects."""
        ...

    def error(self, x: Tensor, mu: Tensor) -> Tensor:
        """``-dE/dmu``."""
        ...

    def force(self, x: Tensor, mu: Tensor) -> Tensor:
        """``dE/dx``."""
        ...

    def value(self, x: Tensor, mu: Tensor) -> Tensor:
        """E of every unit, before they are summed."""
        ...


class Gaussian:
    """Squared error; the state and its prediction are real numbers."""

    def mean(self, mu: Tensor) -> Tensor:
        """The prediction itself."""
        return mu

    def error(self, x: Tensor, mu: Tensor) -> Tensor:
        """``x - mu``."""
        return x - mu

    def force(self, x: Tensor, mu: Tensor) -> Tensor:
        """``x - mu``."""
        return x - mu

    def value(self, x: Tensor, mu: Tensor) -> Tensor:
        """``(x - mu)^2 / 2``."""
        return F.mse_loss(x, mu, reduction="none") / 2


class Categorical:
    """Cross-entropy over the first dimension; the state holds probabilities, the prediction logits.

    The error is ``x - g(mu)`` where the state's probabilities sum to 1, and the exact gradient
    ``x - sum(x) g(mu)`` elsewhere.
    """

    def mean(self, mu: Tensor) -> Tensor:
        """``softmax(mu)``."""
        return mu.softmax(dim=1)

    def error(self, x: Tensor, mu: Tensor) -> Tensor:
        """``x - sum(x) softmax(mu)``."""
        return x - x.sum(dim=1, keepdim=True) * mu.softmax(dim=1)

    def force(self, x: Tensor, mu: Tensor) -> Tensor:
        """``-log softmax(mu)``."""
        return -mu.log_softmax(dim=1)

    def value(self, x: Tensor, mu: Tensor) -> Tensor:
        """``-x log softmax(mu)``."""
        return -x * mu.log_softmax(dim=1)


class Bernoulli:
    """Binary cross-entropy a unit; the state holds probabilities, the prediction logits."""

    def mean(self, mu: Tensor) -> Tensor:
        """``sigmoid(mu)``."""
        return mu.sigmoid()

    def error(self, x: Tensor, mu: Tensor) -> Tensor:
        """``x - sigmoid(mu)``."""
        return x - mu.sigmoid()

    def force(self, x: Tensor, mu: Tensor) -> Tensor:
        """``-mu``."""
        return -mu

    def value(self, x: Tensor, mu: Tensor) -> Tensor:
        """``softplus(mu) - x mu``."""
        return F.softplus(mu) - x * mu


ENERGIES: dict[Kind, Energy] = {
    "gaussian": Gaussian(),
    "categorical": Categorical(),
    "bernoulli": Bernoulli(),
}


class TermEnergy(nn.Module):
    """Energy of one error term, weighted by its precision.

    A learned precision adds ``-log(precision) / 2`` a unit, the normaliser of the Gaussian, without
    which it would shrink to zero.

    Args:
        kind: Which energy.
        precision: A number; one number for each entry of the state's first dimension; or ``learned``,
            one for each unit, which begins at 1.
        shape: Shape of the predicted state, without the batch.
    """

    def __init__(self, kind: Kind, precision: Precision, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.energy = ENERGIES[kind]
        self.is_gaussian = kind == "gaussian"
        self.number = precision if isinstance(precision, float) else math.nan
        self.register_buffer("given", None, persistent=False)
        self.register_parameter("log_precision", None)
        if isinstance(precision, tuple):
            column = (len(precision), *[1] * (len(shape) - 1))
            self.given = torch.tensor(precision, dtype=torch.get_default_dtype()).view(column)
        elif precision == "learned":
            self.log_precision = nn.Parameter(torch.zeros(shape))

    @property
    def precision(self) -> float | Tensor:
        """A number, or a tensor that broadcasts to the state."""
        if self.log_precision is not None:
            return self.log_precision.exp()
        return self.number if self.given is None else self.given

    def mean(self, mu: Tensor) -> Tensor:
        """The state that the prediction expects."""
        return self.energy.mean(mu)

    def error(self, x: Tensor, mu: Tensor) -> Tensor:
        """``x - g(mu)``, not weighted."""
        return self.energy.error(x, mu)

    def weighted(self, error: Tensor) -> Tensor:
        """The error times the precision: minus the gradient of the energy for the prediction."""
        return error if self.number == 1 else error * self.precision

    def force(self, x: Tensor, mu: Tensor) -> Tensor:
        """Gradient of the energy for the state."""
        return self.weighted(self.energy.force(x, mu))

    def forward(self, x: Tensor, mu: Tensor) -> Tensor:
        """The energy, one number an image: (batch,); in float32 at least."""
        if x.dtype.itemsize < 4 or mu.dtype.itemsize < 4:
            x, mu = x.float(), mu.float()
        value = self.weighted(self.energy.value(x, mu))
        energy = value.sum(tuple(range(1, value.dim())))  # flattened, channels-last maps would be copied
        if self.log_precision is not None:
            energy = energy - self.log_precision.sum() / 2
        return energy
