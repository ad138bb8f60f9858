"""A query as the command line gives it: all values at hand, and as many for each node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pcgraph.cli.clamps import (
    RANDOM,
    Given,
    each_once,
    is_image,
    preprocess_of,
    read_mask,
    read_value,
    split_assignment,
)
from pcgraph.datasets.images import denormalise, normalise
from pcgraph.datasets.noise import Noise, add_gaussian, salt_and_pepper
from pcgraph.errors import InputError
from pcgraph.network import PCNetwork
from pcgraph.queries import Answer, query


@dataclass(frozen=True)
class Asked:
    """A query, read from the command line.

    Attributes:
        given: What each node is given: clean, and as many as there are items.
        clamp: The same with the noise on it.
        mask: Which part of a node is held.
        free: The nodes to read.
        soft: The precision of what is held softly.
        names: The items' names.
    """

    given: Mapping[str, Given]
    clamp: Mapping[str, Tensor]
    mask: Mapping[str, Tensor]
    free: Sequence[str]
    soft: Mapping[str, float]
    names: Sequence[str]

    def answer(self, network: PCNetwork, steps: int | None, seed: int, fast: bool = False) -> Answer:
        """Ask the network; with ``fast`` its weights become constants."""
        if fast:
            network.requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        return query(
            network,
            self.clamp,
            mask=self.mask,
            free=self.free,
            soft=self.soft,
            steps=steps,
            generator=generator,
            seed=seed,
            fast=fast,
        )

    def knows(self, node: str) -> bool:
        """Whether a node was given a whole picture, so that what is read of it can be judged."""
        one = self.given.get(node)
        return one is not None and one.names[0] != RANDOM and one.known.ndim > 2


def ask_for(
    network: PCNetwork,
    clamp: Sequence[str],
    free: Sequence[str],
    mask: Sequence[str],
    soft: Sequence[str],
    noise: Noise | None,
    seed: int,
) -> Asked:
    """Read the options.

    Raises:
        InputError: One of them cannot be understood, or does not fit the network.
    """
    nodes = network.graph.nodes
    pairs = {
        option: list(each_once(option, [split_assignment(option, text, nodes) for text in texts]))
        for option, texts in (("--clamp", clamp), ("--mask", mask), ("--soft", soft))
    }
    given = {node: read_value(network, node, text) for node, text in pairs["--clamp"]}
    sizes = {node: len(one.value) for node, one in given.items() if one.value is not None}
    if len(set(sizes.values()) - {1}) > 1:
        listed = ", ".join(f"{size} for '{node}'" for node, size in sizes.items())
        raise InputError(f"--clamp: {listed}; expected as many for each node, or one")
    count = max(sizes.values(), default=1)
    generator = torch.Generator().manual_seed(seed)
    clean, seen = {}, {}
    for node, one in given.items():
        if one.value is None:
            value = torch.randn(count, *nodes[node].shape, generator=generator)
            one = Given(node, value, (RANDOM,) * count, (-1,) * count)
        times = count // len(one.known)
        value = one.known.repeat(times, *[1] * len(nodes[node].shape))
        clean[node] = Given(node, value, one.names * times, one.labels * times)
        seen[node] = with_noise(network, node, value, noise, generator)
    if noise is not None and not any(is_image(nodes[node].shape) for node in given):
        raise InputError("--noise: no image is given")
    precisions = {}
    for node, text in pairs["--soft"]:
        try:
            precisions[node] = float(text)
        except ValueError:
            raise InputError(f"--soft {node}={text}: expected a number, the precision") from None
    masks = {node: read_mask(network, node, text) for node, text in pairs["--mask"]}
    named = next((node for node, size in sizes.items() if size == count), next(iter(given)))
    return Asked(clean, seen, masks, free, precisions, clean[named].names)


def with_noise(
    network: PCNetwork, node: str, value: Tensor, noise: Noise | None, generator: torch.Generator
) -> Tensor:
    """An image with noise on its pixels or on what they are normalised to; other values as they are."""
    if noise is None or not is_image(network.graph.nodes[node].shape):
        return value
    if noise.kind == "gaussian":
        return add_gaussian(value, noise.level, generator)
    preprocess = preprocess_of(network, node)
    pixels = salt_and_pepper(denormalise(value, preprocess), noise.level, generator)
    return normalise(pixels, preprocess)
