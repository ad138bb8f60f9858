"""What the engine asks of whatever learns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from pcgraph.datasets import Batch
from pcgraph.network import PCNetwork


class Task(Protocol):
    """What is learned from a batch. The engine does the rest.

    Attributes:
        network: The network that learns; the engine moves it to its device.
    """

    network: PCNetwork

    def parameters(self) -> list[nn.Parameter]:
        """What learns; each of them requires gradients."""
        ...

    def moments(self, batch: Batch) -> Iterator[Mapping[str, Tensor]]:
        """Each time that the weights shall move: losses by name, each a mean over the batch.

        Their sum is differentiated, and the optimizer makes one step, before the generator goes on.
        Most tasks have one moment a batch. A batch may come in parts; all parts have as many moments.
        """
        ...

    def measure(self, batch: Batch) -> Mapping[str, Tensor]:
        """What is wanted of images that were held out: means over the batch, by name."""
        ...

    def save(self, folder: Path) -> None:
        """Write what was learned, and the spec that loads it, into a folder that exists."""
        ...


@runtime_checkable
class Finishing(Protocol):
    """A task that changes more of its network than weights, and puts it in order at the end."""

    def finish(self) -> None:
        """Called once in every process, before `Task.save`; not where the training is only interrupted."""
        ...
