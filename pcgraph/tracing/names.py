"""Qualified names of the places of a model, numbered as torchvision's feature extraction numbers them."""

from __future__ import annotations

import contextlib
import keyword
from collections.abc import Collection, Iterator
from typing import Any

import torch.fx.graph
from torch import fx, nn


class Numbering:
    """Gives each place a name of its own: the first ``relu`` is ``relu``, the second ``relu_1``.

    A module called ``conv_1`` keeps that name. In torchvision it would be listed as ``conv``, and
    ``conv_1`` could mean ``conv_2``.
    """

    def __init__(self, modules: Collection[str]) -> None:
        self._modules = modules
        self._counts: dict[str, int] = {}

    def name(self, base: str) -> str:
        """The next free name that begins with ``base``."""
        if base not in self._counts:
            self._counts[base] = 0
            return base
        while True:
            self._counts[base] += 1
            name = f"{base}_{self._counts[base]}"
            if name not in self._modules and name not in self._counts:
                self._counts[name] = 0
                return name


def avoid_keywords(root: nn.Module, graph: fx.Graph) -> None:
    """Let nothing in the graph be called by a word of Python, which generated code could not say.

    A module below such a name gets a second name on ``root``, as a plain attribute: the names in the
    state dict stay, and it is the same module.
    """
    for node in list(graph.nodes):
        parts = str(node.target).split(".")
        if node.op not in ("call_module", "get_attr") or not any(map(keyword.iskeyword, parts)):
            continue
        last = max(place for place, part in enumerate(parts) if keyword.iskeyword(part))
        if node.op == "get_attr" and last == len(parts) - 1 and not isinstance(_at(root, parts), nn.Module):
            with graph.inserting_before(node):
                owner = graph.get_attr(_second_name(root, parts[:-1], []))
            node.op, node.target, node.args = "call_function", attribute, (owner, parts[-1])
        else:
            node.target = _second_name(root, parts[: last + 1], parts[last + 1 :])


@contextlib.contextmanager
def keywords_in_code() -> Iterator[None]:
    """Let code that torch generates meanwhile say ``getattr(x, "in")`` where it would say ``x.in``."""
    said: Any = torch.fx.graph
    usual = said._format_target

    def say(base: str, target: str) -> str:
        for part in target.split("."):
            base = f'getattr({base}, "{part}")' if keyword.iskeyword(part) else usual(base, part)
        return base

    said._format_target = say
    try:
        yield
    finally:
        said._format_target = usual


def attribute(owner: nn.Module, name: str) -> object:
    """``owner.name``, which generated code cannot say of a word of Python."""
    return getattr(owner, name)


def _second_name(root: nn.Module, parts: list[str], rest: list[str]) -> str:
    name = "_".join(["_renamed", *parts])
    object.__setattr__(root, name, _at(root, parts))
    return ".".join([name, *rest])


def _at(root: nn.Module, parts: list[str]) -> object:
    found: object = root
    for part in parts:
        found = getattr(found, part)
    return found
