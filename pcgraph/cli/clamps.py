"""What a query is given on the command line: ``NODE=VALUE``, ``NODE=PART`` and ``NODE=NUMBER``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from pcgraph.datasets import open_data, preprocess_for
from pcgraph.datasets.classes import classes_of
from pcgraph.datasets.images import PIXELS, find_images, load_images
from pcgraph.datasets.references import MOST_ITEMS, item_numbers
from pcgraph.errors import Fault, InputError, closest
from pcgraph.files.kinds import instead_of_file
from pcgraph.graph import INPUT
from pcgraph.network import PCNetwork
from pcgraph.runs.record import check_written
from pcgraph.spec import Preprocess

HALVES = ("upper", "lower", "left", "right")
RANDOM = "random"
_ITEMS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
_EXAMPLES = "3, 0-9, digits:test:0-9, photo.png, values.npy, values.safetensors:KEY or random"


@dataclass(frozen=True)
class Given:
    """The value of one node.

    Attributes:
        node: Its name.
        value: (n, *shape); None for random numbers, as many as the others are.
        names: What each of the n is called.
        labels: The class of each, where a data set tells it; else -1.
    """

    node: str
    value: Tensor | None
    names: tuple[str, ...]
    labels: tuple[int, ...]

    @property
    def known(self) -> Tensor:
        """The value, once it is there."""
        assert self.value is not None
        return self.value


def split_assignment(option: str, text: str, nodes: Collection[str]) -> tuple[str, str]:
    """Node and value of ``NODE=VALUE``.

    Raises:
        InputError: It is not of that form, or there is no such node.
    """
    node, sign, value = text.partition("=")
    if not sign or not value:
        raise InputError(
            Fault(f"{option} '{text}': expected NODE=VALUE", hint=f"For example {option} label=3.")
        )
    if node not in nodes:
        raise InputError(Fault(f"{option} '{text}': there is no node '{node}'", hint=closest(node, nodes)))
    return node, value


def each_once(option: str, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The pairs of one option.

    Raises:
        InputError: A node stands twice.
    """
    seen: set[str] = set()
    for node, value in pairs:
        if node in seen:
            raise InputError(f"{option}: node '{node}' is given twice")
        seen.add(node)
        yield node, value


def read_value(network: PCNetwork, node: str, text: str) -> Given:
    """The value that a user means.

    Args:
        network: The network.
        node: One of its nodes.
        text: Class numbers for a node whose state is a vector (``3``, ``0-9``, ``1,4,7``: one-hot);
            ``DATA:SPLIT:ITEMS``, such as ``digits:test:0-9``: the images, or for a vector their classes;
            image files, folders of them, ``photos`` or ``photos:NAME``; a ``.npy`` file; a ``.safetensors``
            file, with ``:KEY`` if it holds several tensors; or ``random``, standard normal numbers.

    Raises:
        InputError: It is none of these, or does not fit the node.
    """
    shape = network.graph.nodes[node].shape
    stem = text.partition(".safetensors:")[0]
    try:
        if text == RANDOM:
            return Given(node, None, (), ())
        if _ITEMS.fullmatch(text) and not Path(text).exists():
            return _classes(node, shape, item_numbers(text), "class")
        if len(parts := text.rsplit(":", 2)) == 3 and parts[1] in ("train", "test"):
            return _items(network, node, *parts)
        if text.endswith((".npy", ".safetensors")) or stem != text:
            return _tensors(node, shape, text)
        return _images(network, node, text)
    except InputError as error:
        faults = error.faults
        raise InputError(
            Fault(f"--clamp {node}: {fault.message}", hint=fault.hint, where=fault.where) for fault in faults
        ) from None


def _classes(node: str, shape: tuple[int, ...], numbers: Sequence[int], what: str) -> Given:
    if len(shape) != 1:
        given = f"'{','.join(map(str, numbers[:3]))}' is a class number"
        message = f"{given}, but the state of '{node}' has shape {shape}, which is no vector of classes"
        raise InputError(Fault(message, hint=f"Give {_EXAMPLES.partition(', ')[2].partition(', ')[2]}."))
    wrong = [number for number in numbers if not 0 <= number < shape[0]]
    if wrong:
        raise InputError(
            f"there is no {what} {wrong[0]}: '{node}' has {shape[0]} entries, 0 to {shape[0] - 1}"
        )
    value = torch.nn.functional.one_hot(torch.tensor(numbers), shape[0]).float()
    return Given(node, value, tuple(str(number) for number in numbers), tuple(numbers))


def _items(network: PCNetwork, node: str, reference: str, part: str, items: str) -> Given:
    shape = network.graph.nodes[node].shape
    if not _ITEMS.fullmatch(items):
        raise InputError(
            f"'{items}' are no items of '{reference}:{part}'; expected numbers such as 3, 0-9 or 1,4"
        )
    vector = len(shape) == 1
    data = open_data(
        reference,
        "train" if part == "train" else "test",
        shape=(1, 1, 1) if vector else shape,
        preprocess=preprocess_of(network, node),
        classes=classes_of(network.spec),
    )
    places = item_numbers(items)
    if places and max(places) >= len(data):
        raise InputError(
            f"'{reference}:{part}' holds {len(data)} images, 0 to {len(data) - 1}; got {max(places)}"
        )
    labels = [data.label(place) for place in places]
    names = tuple(f"{reference}:{part}:{place}" for place in places)
    if vector and min(labels) < 0:
        raise InputError(
            f"'{reference}' has no classes, and '{node}' is a vector: there is nothing to hold it at"
        )
    if vector:
        found = _classes(node, shape, labels, "class")
        return Given(node, found.value, names, tuple(labels))
    return Given(node, torch.stack([data.item(place).image for place in places]), names, tuple(labels))


def _images(network: PCNetwork, node: str, text: str) -> Given:
    shape = network.graph.nodes[node].shape
    if not is_image(shape):
        raise InputError(Fault(f"'{text}' cannot be a value of shape {shape}", hint=f"Give {_EXAMPLES}."))
    batches = load_images(find_images([text]), preprocess_of(network, node), shape, batch=MOST_ITEMS)
    names, value = next(iter(batches))
    return Given(node, value, tuple(names), (-1,) * len(names))


def _tensors(node: str, shape: tuple[int, ...], text: str) -> Given:
    value = read_array(text)
    if tuple(value.shape) == shape:
        value = value[None]
    if tuple(value.shape[1:]) != shape or not len(value):
        raise InputError(f"'{text}' has shape {tuple(value.shape)}; expected {shape}, or n of them")
    if value.is_complex():
        raise InputError(f"'{text}' holds complex numbers, expected real ones")
    value = value.float()
    if not torch.isfinite(value).all():
        raise InputError(f"'{text}' holds numbers that are not finite")
    names = tuple(f"{Path(text).name}:{place}" for place in range(len(value)))
    return Given(node, value, names, (-1,) * len(value))


def read_array(text: str) -> Tensor:
    """The tensor in a ``.npy`` file, or in a ``.safetensors`` file (``FILE:KEY`` where it holds several).

    Raises:
        InputError: The file is missing or broken, or holds no such tensor.
    """
    name, mark, key = text.partition(".safetensors")
    path = Path(name + mark)
    if other := instead_of_file(path):
        raise InputError(Fault(f"{other}, expected a file", where=str(path)))
    if not path.is_file():
        raise InputError(Fault("no such file", where=str(path)))
    check_written(path)
    try:
        if not mark:
            return torch.from_numpy(np.load(path, allow_pickle=False))
        tensors = load_file(path)
    except Exception as error:  # each reader has its own type for a damaged file
        reason = str(error).partition("\n")[0]
        raise InputError(Fault(f"the file cannot be read: {reason}", where=str(path))) from None
    key = key.removeprefix(":") or (next(iter(tensors)) if len(tensors) == 1 else "")
    if key not in tensors:
        hint = closest(key, tensors) if key else f"It holds {', '.join(list(tensors)[:8])}: write {path}:KEY."
        raise InputError(
            Fault(f"there is no tensor '{key}'" if key else "which tensor?", hint=hint, where=str(path))
        )
    return tensors[key]


def read_mask(network: PCNetwork, node: str, text: str) -> Tensor:
    """Which part of a node is held: a half of it, or where a file is not zero (an image: not dark).

    Raises:
        InputError: It is neither, or does not fit the node.
    """
    shape = network.graph.nodes[node].shape
    if text in HALVES:
        if len(shape) < 2:
            raise InputError(f"--mask {node}={text}: a state of shape {shape} has no {text} half")
        held = torch.zeros(shape, dtype=torch.bool)
        height, width = shape[-2] // 2, shape[-1] // 2
        rows = {"upper": slice(None, height), "lower": slice(height, None)}.get(text, slice(None))
        columns = {"left": slice(None, width), "right": slice(width, None)}.get(text, slice(None))
        held[..., rows, columns] = True
        return held
    if text.endswith(".npy") or ".safetensors" in text:
        held = read_array(text)
        if held.isnan().any():
            raise InputError(f"--mask {node}={text}: it holds NaN, which says neither")
        held = held != 0
    elif Path(text).is_file():
        held = next(iter(load_images([Path(text)], PIXELS, shape)))[1][0] >= 0.5
    else:
        hint = closest(text, HALVES)
        raise InputError(Fault(f"--mask {node}={text}: no such file, and no half of the image", hint=hint))
    try:
        return torch.broadcast_to(held, shape)
    except RuntimeError:
        message = f"--mask {node}={text}: shape {tuple(held.shape)} does not fit {shape}"
        raise InputError(message) from None


def is_image(shape: Sequence[int]) -> bool:
    """Whether a state of this shape can be looked at."""
    return len(shape) == 3 and shape[0] in (1, 3)


def preprocess_of(network: PCNetwork, node: str) -> Preprocess:
    """How pictures become values of a node."""
    return preprocess_for(network.spec.backbone) if node == INPUT else PIXELS
