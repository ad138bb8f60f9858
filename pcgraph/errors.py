"""What can go wrong, each fault with its place and a way out."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

FieldPath = tuple[str | int, ...]
SUGGESTED = 20
"""Misspelt names that are compared with all others; to do it for thousands would take minutes."""


def join_path(path: FieldPath) -> str:
    """Write a field path as a person would: ``("feedback", 0, "target")`` is ``feedback[0].target``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        message: What was given and what was expected.
        path: The field of the spec that it is about; empty when it is about no field.
        hint: The way out, as a full sentence; may be empty.
        where: ``file:line:column``, or ``file``; empty when there is no file.
    """

    message: str
    path: FieldPath = ()
    hint: str = ""
    where: str = ""

    def __str__(self) -> str:
        place = " ".join(part for part in (self.where, join_path(self.path)) if part)
        text = f"{place}: {self.message}" if place else self.message
        return f"{text}\n  {self.hint}" if self.hint else text


class PCGraphError(Exception):
    """Base of every error that pcgraph raises on purpose; ``faults`` lists what is wrong."""

    def __init__(self, faults: str | Fault | Iterable[Fault]) -> None:
        if isinstance(faults, str):
            faults = Fault(faults)
        self.faults: tuple[Fault, ...] = (faults,) if isinstance(faults, Fault) else tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))

    def __reduce__(
        self,
    ) -> tuple[Callable[..., PCGraphError], tuple[type[PCGraphError], dict[str, object], object]]:
        """Errors go from process to process, whatever their constructors ask for."""
        return _again, (type(self), self.__dict__, self.args)


def _again(kind: type[PCGraphError], values: dict[str, object], args: tuple[object, ...]) -> PCGraphError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(values)
    return error


class SpecError(PCGraphError):
    """A spec that cannot be read, or that does not fit its model."""


class ModelError(PCGraphError):
    """A model that cannot be had, traced or loaded with weights."""


class InputError(PCGraphError):
    """An argument of a call that does not fit: an image, a clamp, a name to record."""


class LossError(InputError):
    """A loss became infinite or NaN: the training runs away."""


class PCGraphWarning(UserWarning):
    """Something that pcgraph found or did and that should be known; the command line prints it as a note."""


class DivergenceError(PCGraphError):
    """A state became infinite or NaN.

    Attributes:
        node: The first node (in the graph's order) whose state is not finite.
        step: The step that produced it; 1 is the first step.
    """

    def __init__(self, node: str, step: int, hint: str = "") -> None:
        self.node = node
        self.step = step
        super().__init__(Fault(f"the state of node '{node}' is not finite after step {step}", hint=hint))


class RisingEnergyError(DivergenceError):
    """The energy rose step after step: inference diverges, though every state is finite yet.

    Attributes:
        node: The target of the error term that holds most of the energy.
        step: The step after which it was noticed.
    """

    def __init__(self, node: str, step: int, before: float, after: float, hint: str = "") -> None:
        self.node = node
        self.step = step
        message = (
            f"the energy rises: {before:.3g}, then {after:.3g} after step {step}, most of it at '{node}'"
        )
        PCGraphError.__init__(self, Fault(message, hint=hint))


def closest(name: str, choices: Iterable[str], limit: int = 3) -> str:
    """A sentence that names the choices most like ``name``, or lists them when none is alike."""
    known: Sequence[str] = list(choices)
    if not known:
        return ""
    matches = difflib.get_close_matches(name, known, n=limit, cutoff=0.6)
    if matches:
        return f"Did you mean {' or '.join(repr(match) for match in matches)}?"
    shown = ", ".join(repr(choice) for choice in known[:8])
    return f"Choose from {shown}{', ...' if len(known) > 8 else ''}."


def suggestions(choices: Iterable[str]) -> Callable[[str], str]:
    """`closest` for each of many misspelt names; from the 21st on there is no hint."""
    known, given = list(choices), dict[str, str]()

    def hint(name: str) -> str:
        if name not in given and len(given) < SUGGESTED:
            given[name] = closest(name, known)
        return given.get(name, "")

    return hint
