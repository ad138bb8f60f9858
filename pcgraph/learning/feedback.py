"""Feedback by reconstruction: each predictor learns to predict what the plain network computes below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcgraph.datasets import Batch
from pcgraph.errors import Fault, InputError
from pcgraph.learning.saving import save_network
from pcgraph.network import PCNetwork, read
from pcgraph.scheduler import Scheduler


class Feedback:
    """The task of the feedback predictors (Choksi et al. 2021, "Predify", section 3).

    The loss of an error term is the mean squared error between its prediction and its target, both from
    one feedforward pass: the states at step 0. The backbone is run without a graph, and only as far up as
    the highest node, so a step costs little more than inference.

    Args:
        network: Its predictors of feedback edges learn; nothing else moves.

    Raises:
        InputError: There is no feedback edge with weights, or the states do not start feedforward.
    """

    def __init__(self, network: PCNetwork) -> None:
        self.network = network
        if network.spec.schedule.initial != "feedforward":
            message = "feedback learns from the feedforward pass, and 'schedule.initial' is another"
            raise InputError(Fault(message, ("schedule", "initial"), "Write 'initial: feedforward'."))
        edges = [edge for edge in network.graph.edges.values() if edge.kind == "feedback"]
        self.edges = {edge.name: edge for edge in edges if list(network.predictors[edge.name].parameters())}
        if not self.edges:
            hint = "Write for example 'feedback: chain'. A baseline without feedback learns to classify:"
            hint += " 'train: {task: through_time}', with 'steps: 0' as the plain network."
            raise InputError(Fault("the network has no feedback that could learn", ("feedback",), hint))
        self.scheduler = Scheduler(network)
        network.requires_grad_(False)
        for name in self.edges:
            network.predictors[name].requires_grad_(True)

    def parameters(self) -> list[nn.Parameter]:
        """The weights of the feedback predictors."""
        return [p for name in self.edges for p in self.network.predictors[name].parameters()]

    def moments(self, batch: Batch) -> Iterator[Mapping[str, Tensor]]:
        """One moment a batch: the reconstruction error of each term."""
        values = self.scheduler.start(batch.images, seed=batch.seed, places=batch.indices).values
        for name in self.edges:
            self.network.predictors[name].train()
        with torch.enable_grad():
            losses = self.losses(values)
        self.network.predictors.eval()
        yield losses

    def measure(self, batch: Batch) -> Mapping[str, Tensor]:
        """The same errors, without a graph."""
        values = self.scheduler.start(batch.images, seed=batch.seed, places=batch.indices).values
        with torch.no_grad():
            return self.losses(values)

    def losses(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The mean squared error of each feedback term, at these states."""
        return reconstruction(self.network, values, self.edges)

    def save(self, folder: Path) -> None:
        """Write the predictors' weights and the spec."""
        save_network(self.network, folder)


def reconstruction(
    network: PCNetwork, values: Mapping[str, Tensor], edges: Mapping[str, object]
) -> dict[str, Tensor]:
    """Mean squared error between prediction and state, by error term.

    Args:
        network: The network.
        values: States (batch, *shape) by node; as targets they are constants.
        edges: The edges whose terms are asked for.
    """
    graph = network.graph
    losses = {}
    for term in dict.fromkeys(graph.edges[name].bundle for name in edges):
        members = graph.terms[term]
        predictions = [network.predictors[edge.name](*read(edge, values)) for edge in members]
        prediction = sum(predictions[1:], predictions[0])
        target = values[members[0].target].detach()
        losses[term] = F.mse_loss(prediction.to(target.dtype), target)
    return losses
