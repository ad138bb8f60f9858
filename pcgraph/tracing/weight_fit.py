"""Which tensors of a weight file are a model's: those under one prefix whose names and shapes are its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pcgraph.errors import Fault, ModelError, closest
from pcgraph.files.tensors import WITHOUT, kind_of, type_of
from pcgraph.tracing.weight_files import Part

# Counts of batches and of averaged weights (torch's AveragedModel): eval mode never reads them, and not all
# files have them.
UNUSED = ("num_batches_tracked", "n_averaged")


class Own:
    """The tensors of a model that a file has to hold, by name.

    Attributes:
        tensors: All of them.
        tied: Names of one and the same tensor, one of which is enough; most stand alone.
    """

    def __init__(self, model: nn.Module) -> None:
        state = model.state_dict()
        self.tensors = {
            name: value
            for name, value in state.items()
            if isinstance(value, Tensor) and not name.endswith(UNUSED)
        }
        if lazy := [name for name, value in self.tensors.items() if is_lazy(value)]:
            raise ModelError(
                Fault(
                    f"the model's '{lazy[0]}' has no shape yet, so no weights can be compared with it",
                    hint="Run a lazy module once before it is handed over.",
                )
            )
        groups: dict[int, list[str]] = {}
        for named in (model.named_parameters, model.named_buffers):
            for name, value in named(remove_duplicate=False):
                if name in self.tensors:
                    groups.setdefault(id(value), []).append(name)
        grouped = {name for names in groups.values() for name in names}
        self.tied = [*groups.values(), *([name] for name in self.tensors if name not in grouped)]

    @property
    def bytes(self) -> int:
        """What all of them take."""
        return sum(value.numel() * value.element_size() for value in self.tensors.values())


@dataclass(frozen=True)
class Fit:
    """Tensors of a file as the model names them.

    Attributes:
        label: Where in the file they are: keys and prefix; empty where they are the file.
        prefix: What was taken off their names.
        tensors: By the model's names.
        beside: Names of the file that stand beside those with the prefix.
    """

    label: str
    prefix: str
    tensors: Mapping[str, Tensor]
    beside: Sequence[str] = ()


def within(parts: Sequence[Part], wanted: str, path: Path) -> list[Part]:
    """The parts of a file under the keys and names that ``wanted`` begins with; ``''`` is the file itself.

    Raises:
        ModelError: There are none.
    """
    wanted = wanted.removesuffix(".")
    found = []
    for part in parts:
        inner = wanted[len(part.label) :].removeprefix(".")
        if part.label == wanted or (wanted and part.label.startswith(f"{wanted}.")):
            found.append(part)
        elif inner and f"{part.label}.{inner}".removeprefix(".") == wanted:
            names = {name[len(inner) + 1 :]: name for name in part.tensors if name.startswith(f"{inner}.")}
            if names:
                tensors = {name: part.tensors[whole] for name, whole in names.items()}
                found.append(Part((*part.keys, inner), tensors))
    if not found:
        known = [".".join((*part.keys, name.partition(".")[0])) for part in parts for name in part.tensors]
        known = list(dict.fromkeys([part.label for part in parts if part.label] + known))
        raise ModelError(Fault(f"'{path}' has no part '{wanted}'", hint=closest(wanted, known)))
    return found


def by_name(own: Own, parts: Sequence[Part]) -> list[Fit]:
    """Everything in a file whose names and shapes, under one prefix, are all of the model's."""
    return [
        fit
        for part in parts
        for prefix in _prefixes(own, part.tensors)
        if _names_fit(own, fit := _under(part, prefix)) and _shapes_fit(own, fit.tensors)
    ]


def by_order(own: Own, parts: Sequence[Part]) -> list[Fit]:
    """Everything in a file whose tensors have the model's shapes, in the model's order."""
    return [fit for part in parts for fit in _in_order(own, used(part)) if _shapes_fit(own, fit.tensors)]


def nearest(own: Own, parts: Sequence[Part]) -> Fit:
    """What comes closest to the model by its names; without any likeness, the part of the most tensors."""
    counts = [Counter(_all_prefixes(own, part.tensors)) for part in parts]
    best = max(range(len(parts)), key=lambda i: (max(counts[i].values(), default=0), len(parts[i].tensors)))
    alike = counts[best].most_common(1)
    return _under(parts[best], alike[0][0] if alike else "")


def used(part: Part) -> Part:
    """The part without what eval mode never reads."""
    return Part(part.keys, {n: value for n, value in part.tensors.items() if not n.endswith(UNUSED)})


def _under(part: Part, prefix: str) -> Fit:
    tensors = used(part).tensors
    inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    beside = [name for name in tensors if not name.startswith(prefix)]
    label = ".".join(text for text in (part.label, prefix.removesuffix(".")) if text)
    return Fit(label, prefix, inside, beside)


def _prefixes(own: Own, names: Mapping[str, Tensor]) -> list[str]:
    """Prefixes under which the file has the model's first name, or one of the names tied to it."""
    first = min(own.tied, key=len, default=[])
    return list(dict.fromkeys(_before(names, first)))


def _all_prefixes(own: Own, names: Mapping[str, Tensor]) -> Iterator[str]:
    return _before(names, own.tensors)


def _before(names: Mapping[str, Tensor], own: Sequence[str] | Mapping[str, Tensor]) -> Iterator[str]:
    known = set(own)
    for name in names:
        words = name.split(".")
        for cut in range(len(words)):
            if ".".join(words[cut:]) in known:
                yield "".join(f"{word}." for word in words[:cut])


def _names_fit(own: Own, fit: Fit) -> bool:
    covered = all(any(name in fit.tensors for name in names) for names in own.tied)
    return covered and all(name in own.tensors for name in fit.tensors)


def _shapes_fit(own: Own, given: Mapping[str, Tensor]) -> bool:
    return all(value.shape == own.tensors[name].shape for name, value in given.items())


def _in_order(own: Own, part: Part) -> Iterator[Fit]:
    """The part's tensors with the model's names; tied ones counted each, or once."""
    once = {names[0] for names in own.tied}
    for names in (list(own.tensors), [name for name in own.tensors if name in once]):
        if len(names) == len(part.tensors):
            yield Fit(part.label, "", dict(zip(names, part.tensors.values(), strict=True)))
            return


# ---- what does not fit ----------------------------------------------------------------------------


def misfits(own: Own, given: Mapping[str, Tensor]) -> list[str]:
    """What is wrong with tensors for a model, in words: names, shapes, types, shared ones that differ."""
    both = [name for name in own.tensors if name in given]
    tied = [[name for name in names if name in given] for names in own.tied]
    found = {
        "missing in the file": [names[0] for names, there in zip(own.tied, tied, strict=True) if not there],
        "not in the model": [name for name in given if name not in own.tensors],
        "of another shape": [
            f"{name}: {tuple(given[name].shape)} in the file, {tuple(own.tensors[name].shape)} in the model"
            for name in both
            if given[name].shape != own.tensors[name].shape
        ],
        "of another type": [
            f"{name}: {type_of(given[name])} in the file, {type_of(own.tensors[name])} in the model"
            for name in both
            if kind_of(given[name]) != kind_of(own.tensors[name])
        ],
    }
    if not any(found.values()):
        found["too large for the model's type"] = [
            name for name in both if _overflows(given[name], own.tensors[name].dtype)
        ]
        found["shared in the model and different in the file"] = [
            f"{names[0]} and {other}"
            for names in tied
            for other in names[1:]
            if not _equal(given[names[0]], given[other])
        ]
    return [f"{len(names)} {what} ({first(names)})" for what, names in found.items() if names]


def first(names: Sequence[str], limit: int = 3) -> str:
    """The first few, for a message."""
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def same(one: Fit, other: Fit) -> bool:
    """Whether two fits are the same weights, so that it does not matter which is taken."""
    return one.tensors.keys() == other.tensors.keys() and all(
        kind_of(value) not in WITHOUT
        and kind_of(other.tensors[name]) not in WITHOUT
        and _equal(value, other.tensors[name])
        for name, value in one.tensors.items()
    )


def _overflows(given: Tensor, dtype: torch.dtype) -> bool:
    if given.dtype == dtype or kind_of(given) not in ("floating", "integer"):
        return False
    if kind_of(given) == "integer":
        return not torch.equal(given.to(dtype).to(given.dtype), given)
    wide = given.float() if given.element_size() < 4 else given
    return bool((wide.isfinite() & ~wide.to(dtype).isfinite()).any())


def _equal(one: Tensor, other: Tensor) -> bool:
    bits = [tensor.reshape(-1).contiguous().view(torch.uint8) for tensor in (one, other)]  # NaN is NaN here
    return one.dtype == other.dtype and torch.equal(*bits)
