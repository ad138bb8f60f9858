"""Training by the energy: the learning rules as a task of the engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcgraph.datasets import Batch
from pcgraph.errors import Fault, InputError
from pcgraph.learning.compiled import Compiled
from pcgraph.learning.local import Local
from pcgraph.learning.loop import find_rule, moments
from pcgraph.learning.saving import save_network
from pcgraph.learning.through_time import check_labels
from pcgraph.network import PCNetwork
from pcgraph.spec.training import Train

LABEL = "label"


class ByEnergy:
    """The task of a network whose weights follow the energy, by a rule of `learn`.

    The images are clamped to the node that receives them, and the classes, one-hot, to the label's node,
    where the network has one. Without it, as in a memory, the images are all there is to learn.

    Args:
        network: A network with dynamics ``rule: energy``.
        settings: Rule, steps, label, and whose weights move.
        compiled: Whether the work of a batch becomes one compiled function; see `learn`.

    Raises:
        InputError: Another rule of the dynamics, no such label, or errors that cannot come back (delay 0).
    """

    def __init__(self, network: PCNetwork, settings: Train, compiled: bool = False) -> None:
        self.network = network
        self.local = Local(network)
        self.rule = settings.rule
        self.compile(compiled)
        self.steps = network.spec.schedule.steps if settings.steps is None else settings.steps
        graph = network.graph
        self.label = settings.label or (LABEL if LABEL in graph.nodes else None)
        if self.label is not None:
            shape = graph.nodes[self.label].shape
            if len(shape) != 1 or not (graph.terms_into(self.label) or self.label in graph.starts):
                message = f"node '{self.label}' of shape {shape} cannot hold classes"
                hint = "It has the shape [classes], and an edge (or a start) that predicts it."
                raise InputError(Fault(message, ("train", "label"), hint))
        _errors_come_back(network, settings.rule)
        learns = settings.learns or ["predictors", "backbone"]
        network.requires_grad_(False)
        if "predictors" in learns:
            network.predictors.requires_grad_(True)
            network.energies.requires_grad_(True)
            network.starts.requires_grad_(True)
        self.backbone = "backbone" in learns and network.drive is not None
        if self.backbone and network.drive is not None:
            network.drive.requires_grad_(True)

    def compile(self, compiled: bool) -> None:
        """Let the work of the next batches be compiled, or not."""
        self.infer = find_rule(self.rule, compiled)

    @property
    def gave_up(self) -> bool:
        """Whether the work was to be compiled and could not be."""
        return isinstance(self.infer, Compiled) and self.infer.gave_up

    def parameters(self) -> list[nn.Parameter]:
        """All weights that move, learned precisions among them."""
        return [parameter for parameter in self.network.parameters() if parameter.requires_grad]

    def moments(self, batch: Batch) -> Iterator[Mapping[str, Tensor]]:
        """The rule's moments: the energy of each error term, and the loss of each learned first guess."""
        for moment in moments(self.local, self.infer, self.clamp(batch), self.steps):
            yield moment.losses

    def measure(self, batch: Batch) -> Mapping[str, Tensor]:
        """The accuracy, where there are classes; else the energy after inference."""
        scheduler, receiver = self.local.scheduler, self.network.graph.receiver
        if self.label is None:
            state = scheduler.run(clamp=self.clamp(batch), steps=self.steps, record=[]).state
            energies = self.local.energies(self.local.predict(state).mu, state.values)
            return {"energy": torch.stack([energy.detach() for energy in energies.values()]).sum()}
        check_labels(batch.labels, self.network.graph.nodes[self.label].shape[0])
        clamp = {receiver: batch.images}
        terms = self.network.graph.terms_into(self.label)
        if not all(self.network.energy(term).is_gaussian for term in terms):
            # such an energy has no lowest point in a free node: its first guess stays
            clamp[self.label] = scheduler.start(clamp=clamp).values[self.label]
        state = scheduler.run(clamp=clamp, steps=self.steps, record=[]).state
        scores = state.values[self.label]
        if terms:
            mu = self.local.predict(state, terms).mu
            scores = torch.stack([mu[term].detach() for term in terms]).sum(dim=0)
        guess = scores.argmax(dim=1)
        return {"accuracy": (guess == batch.labels).float().mean()}

    def save(self, folder: Path) -> None:
        """Write all weights, and the spec."""
        save_network(self.network, folder, backbone=self.backbone)

    def clamp(self, batch: Batch) -> dict[str, Tensor]:
        """What is held while the states settle."""
        clamp = {self.network.graph.receiver: batch.images}
        if self.label is not None:
            classes = self.network.graph.nodes[self.label].shape[0]
            check_labels(batch.labels, classes)
            clamp[self.label] = F.one_hot(batch.labels, classes).to(batch.images.dtype)
        return clamp


def _errors_come_back(network: PCNetwork, rule: str) -> None:
    """Refuse an order in which no error would ever reach the lower weights."""
    graph = network.graph
    for edge in graph.edges.values() if rule in ("il", "ipc") else ():
        if edge.delay == 0 and set(edge.sources) != {graph.receiver}:
            message = (
                f"edge '{edge.name}' has delay 0 and carries no error back: what is below could not learn"
            )
            raise InputError(Fault(message, ("schedule", "order"), "Write 'order: synchronous'."))
