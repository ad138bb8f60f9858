"""What `torch.optim` does to the weights, as operations of a compiled batch.

SGD, Adam and AdamW with what they are mostly used with; their state stays where they keep it, so that the
optimizer's own step can follow at any batch, and `state_dict` holds what it always holds.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.optim import optimizer as optimizer_module

Options = Mapping[str, Any]
KINDS = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
UNUSUAL = ("amsgrad", "maximize", "differentiable", "capturable", "dampening")
NOT_COMPILED = ("params", "lr", "initial_lr", "foreach", "fused")


@dataclass(frozen=True)
class Mover:
    """The step of one optimizer.

    Attributes:
        optimizer: Whose state it reads and writes.
        names: Of the weights in each of its groups.
    """

    optimizer: torch.optim.Optimizer
    names: Sequence[Sequence[str]]

    @classmethod
    def find(cls, optimizer: torch.optim.Optimizer, weights: Mapping[str, Tensor]) -> Mover | None:
        """The step of an optimizer of these weights; None where only its own `step` is sure to do that.

        That is so for other optimizers, subclasses, rare options, weights of somebody else, and GPUs.
        """
        called = {weight: name for name, weight in weights.items() if weight.requires_grad}
        groups = optimizer.param_groups
        usual = all(group["params"] and not any(group.get(one) for one in UNUSUAL) for group in groups)
        moved = [weight for group in groups for weight in group["params"]]
        if type(optimizer) not in KINDS or not usual:
            return None
        if any(one not in called or one.device.type != "cpu" for one in moved):
            return None
        return cls(optimizer, [[called[weight] for weight in group["params"]] for group in groups])

    @property
    def form(self) -> Hashable:
        """All that is written into the compiled code; None while somebody watches the optimizer's own step.

        Learning rate schedulers do: they replace it by one that counts.
        """
        own = self.optimizer
        watched = (
            "step" in vars(own)
            or own._optimizer_step_pre_hooks
            or own._optimizer_step_post_hooks
            or optimizer_module._global_optimizer_pre_hooks
            or optimizer_module._global_optimizer_post_hooks
        )
        kept = [
            (len(group["params"]), *((name, one) for name, one in group.items() if name not in NOT_COMPILED))
            for group in own.param_groups
        ]
        return None if watched else tuple(kept)

    def tensors(self) -> list[Tensor] | None:
        """What changes from step to step: of each group its rates, and the state of each weight.

        States that are not there yet are made as the optimizer would make them. None where weights of one
        group are at different steps.
        """
        found: list[Tensor] = []
        for group in self.optimizer.param_groups:
            states = [one for weight in group["params"] for one in self._state(group, weight)]
            done = {float(step) for step in states[::3]} if "betas" in group else {0.0}
            if len(done) > 1:
                return None
            rates = adam_rates(group, *done) if "betas" in group else [float(group["lr"])]
            found += [torch.tensor(rates, dtype=group["params"][0].dtype), *states]
        return found

    def move(
        self,
        weights: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: Sequence[Tensor],
        when: Tensor,
    ) -> None:
        """One step, in place.

        Args:
            weights: By name.
            gradients: By name.
            state: As from `tensors`.
            when: Whether it is made at all, one truth value.
        """
        given = iter(state)
        for names, group in zip(self.names, self.optimizer.param_groups, strict=True):
            rates = next(given).unbind()
            for name in names:
                own = [next(given) for _ in _state_names(group)]
                step = adam if "betas" in group else sgd
                old = [weights[name], *own]
                new = step(group, rates, gradients[name], *old)
                for before, after in zip(old, new, strict=True):
                    before.copy_(torch.where(when, after, before))

    def tell(self) -> None:
        """Say that the weights have changed: compiled code writes unseen, and others keep what they made."""
        increment_version([weight for group in self.optimizer.param_groups for weight in group["params"]])

    def _state(self, group: Options, weight: Tensor) -> Iterator[Tensor]:
        names = _state_names(group)
        state = self.optimizer.state[weight] if names else {}
        for name in names:
            if state.get(name) is None:
                zero = torch.zeros((), dtype=torch.float32)
                state[name] = zero if name == "step" else torch.zeros_like(weight)
            yield state[name]


def _state_names(group: Options) -> tuple[str, ...]:
    """As torch calls them."""
    if "betas" in group:
        return ("step", "exp_avg", "exp_avg_sq")
    return ("momentum_buffer",) if group["momentum"] else ()


def adam_rates(group: Options, done: float) -> list[float]:
    """How far the next step goes, what the root of the mean square lacks, and what is left of a weight.

    They are computed here as they need more digits than float32 has.
    """
    fast, slow = group["betas"]
    rate, step = float(group["lr"]), done + 1
    return [rate / (1 - fast**step), 1 / math.sqrt(1 - slow**step), 1 - rate * group["weight_decay"]]


def adam(
    group: Options, rates: Sequence[Tensor], gradient: Tensor, weight: Tensor, *state: Tensor
) -> list[Tensor]:
    """Weight, number of steps and both means after a step of Adam or AdamW (Loshchilov and Hutter 2019)."""
    (size, lack, left), (step, mean, square), (fast, slow) = rates, state, group["betas"]
    if group["decoupled_weight_decay"]:
        weight = weight * left
    elif group["weight_decay"]:
        gradient = gradient + group["weight_decay"] * weight
    mean = torch.lerp(mean, gradient, 1 - fast)
    square = square * slow + gradient * gradient * (1 - slow)
    return [weight - size * mean / (square.sqrt() * lack + group["eps"]), step + 1, mean, square]


def sgd(
    group: Options, rates: Sequence[Tensor], gradient: Tensor, weight: Tensor, *state: Tensor
) -> list[Tensor]:
    """Weight, and the running sum of gradients where there is momentum, after a step of SGD."""
    gradient = gradient + group["weight_decay"] * weight if group["weight_decay"] else gradient
    state = tuple(group["momentum"] * summed + gradient for summed in state)
    for summed in state:
        gradient = gradient + group["momentum"] * summed if group["nesterov"] else summed
    return [weight - rates[0] * gradient, *state]
