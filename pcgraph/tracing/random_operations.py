"""ATen operations that draw random numbers, as functions of numbers that are uniform or normal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

Kind = Literal["uniform", "normal"]
Fill = Callable[..., Any]
Rule = tuple[Kind, torch.dtype | None, Fill, tuple[Any, ...]]
"""What is drawn (of the result's type where there is none), and the function of it and of some arguments."""


def rule_of(name: str, form: str, args: Sequence[Any], dtype: torch.dtype) -> Rule | None:
    """How an operation is computed from numbers of a given distribution.

    Args:
        name: The operation's, without the underscore of those that write in place.
        form: Of its overload.
        args: Its arguments, as values or as nodes of a graph.
        dtype: Of its result.
    """
    rest = [arg for arg in args[1:] if arg is not None]
    if name in ("rand", "randn", "rand_like", "randn_like"):
        like = args[:1] if name.endswith("_like") else ()
        return ("normal" if "randn" in name else "uniform"), None, as_drawn, (*like,)
    if name in ("uniform", "normal_functional") or (name == "normal" and form == "default"):
        low, high = (*rest, 0.0, 1.0)[:2] if len(rest) != 1 else (rest[0], 1.0)
        if name == "uniform":
            return "uniform", None, between, (low, high, args[0])
        return "normal", None, scaled, (low, high, args[0])
    if name == "normal":
        return "normal", None, scaled, (args[0], rest[0] if rest else 1.0)
    if name == "bernoulli":
        chance = rest[0] if rest else (0.5 if form == "float" else args[0])
        return "uniform", torch.float32, below, (chance, args[0])
    if name == "native_dropout":
        return "uniform", torch.float32, dropped, (args[0], args[1])
    if name == "exponential":
        return "uniform", torch.float64, waited, (rest[0] if rest else 1.0, args[0])
    if name == "randperm":
        return "uniform", torch.float64, ordered, (dtype,)
    if name == "randint":
        return "uniform", torch.float64, whole, (dtype, *(args[:2] if "low" in form else (0, args[0])))
    if name == "randint_like" and "Tensor" not in form:
        return "uniform", torch.float64, whole, (dtype, *(rest[:2] if "low" in form else (0, rest[0])))
    return None


def as_drawn(draw: Tensor, like: Tensor | None = None) -> Tensor:
    """The numbers themselves, in the type of ``like``."""
    return draw if like is None else draw.to(like.dtype)


def between(draw: Tensor, low: float, high: float, like: Tensor) -> Tensor:
    """Uniform from ``low`` to ``high``."""
    return (draw * (high - low) + low).to(like.dtype)


def scaled(draw: Tensor, mean: Any, std: Any, like: Tensor | None = None) -> Tensor:
    """Normal; mean and deviation get no gradient, as in torch."""
    mean, std = (part.detach() if isinstance(part, Tensor) else part for part in (mean, std))
    made: Tensor = draw * std + mean
    return as_drawn(made, like)


def below(draw: Tensor, chance: Any, like: Tensor) -> Tensor:
    """One with that chance, else zero."""
    return torch.lt(draw, chance).to(like.dtype)


def dropped(draw: Tensor, x: Tensor, chance: float) -> tuple[Tensor, Tensor]:
    """Dropout of ``x``, and what it keeps."""
    kept = draw < 1 - chance
    return x * (kept.to(x.dtype) / (1 - chance if chance < 1 else 1)), kept


def waited(draw: Tensor, rate: float, like: Tensor) -> Tensor:
    """Exponentially distributed, and never zero, as its logarithm is often taken."""
    return (-torch.log1p(-draw) / rate).clamp_min(torch.finfo(like.dtype).tiny).to(like.dtype)


def ordered(draw: Tensor, dtype: torch.dtype) -> Tensor:
    """The numbers from 0 on in any order."""
    return draw.argsort().to(dtype)


def whole(draw: Tensor, dtype: torch.dtype, low: int, high: int) -> Tensor:
    """Whole numbers from ``low`` to ``high - 1``."""
    return (draw * (high - low)).floor().add(low).to(dtype)


UNTAGGED = ("random", "random_", "random_from", "binomial", "_sample_dirichlet")
"""Operations that draw, and do not say so."""
CHANCES = ("dropout_p", "dropout", "p")
SWITCHES = ("train", "training")


def draws(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether this call of an ATen operation depends on random numbers."""
    if not isinstance(operation, torch._ops.OpOverload):
        return False
    if torch.Tag.nondeterministic_seeded not in operation.tags:
        return name_of(operation) in UNTAGGED
    given = {part.name: part.default_value for part in operation._schema.arguments}
    given |= dict(zip(given, args, strict=False)) | dict(kwargs)
    if any(name in given and given[name] is False for name in SWITCHES):
        return False
    drops = any(name in given for name in SWITCHES) or "dropout_p" in given
    return not (drops and any(name in given and given[name] == 0 for name in CHANCES))


def name_of(operation: Any) -> str:
    """An operation's name, without its library and overload."""
    return str(operation._schema.name).rpartition("::")[2]
