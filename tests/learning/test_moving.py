"""The step of an optimizer within a compiled batch is torch's own; what is not sure to be is left to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pcgraph.learning.moving import Mover

OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "SGD": (torch.optim.SGD, {"lr": 0.1}),
    "SGD that decays": (torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.2}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2}),
    "Nesterov": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
    "Adam": (torch.optim.Adam, {"lr": 0.1}),
    "Adam that decays": (torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.2, "betas": (0.7, 0.95)}),
    "fused Adam": (torch.optim.Adam, {"lr": 0.01, "eps": 1e-3, "fused": True}),
    "AdamW": (torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.2}),
}


def weights(dtype: torch.dtype = torch.float64) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"a": (3, 4), "b": (3,), "c": (2, 3, 2, 2)}
    return {
        name: nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype))
        for name, shape in shapes.items()
    }


def made(kind: Any, options: dict[str, Any], learned: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    """An optimizer with two groups, one with a learning rate of its own."""
    groups = [{"params": [learned["c"], learned["a"]]}, {"params": [learned["b"]], "lr": 0.03}]
    optimizer: torch.optim.Optimizer = kind(groups, **options)
    return optimizer


def gradients(learned: dict[str, nn.Parameter], step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step + 1)
    return {
        name: torch.randn(one.shape, generator=generator, dtype=one.dtype) for name, one in learned.items()
    }


def let_torch(optimizer: torch.optim.Optimizer, learned: dict[str, nn.Parameter], step: int) -> None:
    for name, gradient in gradients(learned, step).items():
        learned[name].grad = gradient
    optimizer.step()


@torch.no_grad()
def let_mover(
    optimizer: torch.optim.Optimizer, learned: dict[str, nn.Parameter], step: int, when: bool = True
) -> None:
    mover = Mover.find(optimizer, learned)
    assert mover is not None
    assert mover.form is not None
    state = mover.tensors()
    assert state is not None
    mover.move(dict(learned), gradients(learned, step), state, torch.tensor(when))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", OPTIMIZERS)
def test_weights_and_states_are_those_of_torch(case: str, dtype: torch.dtype) -> None:
    (theirs, ours), (kind, options) = (weights(dtype), weights(dtype)), OPTIMIZERS[case]
    reference, optimizer = made(kind, options, theirs), made(kind, options, ours)
    for step in range(6):
        for either in (reference, optimizer):
            either.param_groups[0]["lr"] = 0.1 / (step + 1)
        let_torch(reference, theirs, step)
        (let_torch if step == 3 else let_mover)(optimizer, ours, step)  # either goes on where the other was
    tolerance = 1e-12 if dtype == torch.float64 else 3e-6
    for name, one in theirs.items():
        torch.testing.assert_close(ours[name], one, rtol=tolerance, atol=tolerance)
    found, expected = optimizer.state_dict(), reference.state_dict()
    assert found["param_groups"] == expected["param_groups"]
    assert found["state"].keys() == expected["state"].keys()
    for key, values in expected["state"].items():
        torch.testing.assert_close(found["state"][key], values, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", ["momentum", "AdamW"])
def test_a_step_that_is_not_to_be_made_changes_nothing(case: str) -> None:
    (kind, options), learned = OPTIMIZERS[case], weights()
    optimizer = made(kind, options, learned)
    let_mover(optimizer, learned, 0)
    before = [one.clone() for one in learned.values()]
    states = [v.clone() for state in optimizer.state.values() for v in state.values()]
    let_mover(optimizer, learned, 1, when=False)
    assert all(torch.equal(one, other) for one, other in zip(learned.values(), before, strict=True))
    now = [v for state in optimizer.state.values() for v in state.values()]
    assert all(torch.equal(one, other) for one, other in zip(now, states, strict=True))


class Own(torch.optim.Adam):
    """Somebody's own optimizer."""


LEFT_TO_TORCH: dict[str, tuple[Any, dict[str, Any]]] = {
    "another one": (torch.optim.RMSprop, {}),
    "a subclass": (Own, {}),
    "AMSGrad": (torch.optim.Adam, {"amsgrad": True}),
    "upwards": (torch.optim.SGD, {"maximize": True}),
    "dampened": (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
}


@pytest.mark.parametrize("case", LEFT_TO_TORCH)
def test_what_is_rare_is_left_to_torch(case: str) -> None:
    kind, options = LEFT_TO_TORCH[case]
    learned = weights()
    assert Mover.find(made(kind, options, learned), learned) is None


def test_weights_of_somebody_else_are_left_to_torch() -> None:
    learned = weights()
    optimizer = made(torch.optim.Adam, {}, learned)
    learned["a"].requires_grad_(False)
    assert Mover.find(optimizer, learned) is None
    assert Mover.find(optimizer, {name: learned[name] for name in "bc"}) is None


def test_whoever_watches_the_steps_sees_them() -> None:
    learned = weights()
    optimizer = made(torch.optim.Adam, {}, learned)
    mover = Mover.find(optimizer, learned)
    assert mover is not None
    assert mover.form is not None
    before = mover.form
    hook = optimizer.register_step_post_hook(lambda *_: None)
    assert mover.form is None
    hook.remove()
    assert mover.form == before
    optimizer.param_groups[0]["eps"] = 1e-3
    assert mover.form not in (None, before)
    torch.optim.lr_scheduler.StepLR(optimizer, 2)
    assert mover.form is None


def test_weights_at_different_steps_are_left_to_torch() -> None:
    learned = weights()
    optimizer = torch.optim.Adam(learned.values())
    learned["a"].grad = torch.ones_like(learned["a"])
    optimizer.step()
    mover = Mover.find(optimizer, learned)
    assert mover is not None
    assert mover.tensors() is None
