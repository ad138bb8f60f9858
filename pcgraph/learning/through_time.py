"""Training by the gradient through the steps of a run: predictors, backbone, or both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcgraph.datasets import Batch
from pcgraph.errors import Fault, InputError
from pcgraph.learning.saving import save_network
from pcgraph.network import PCNetwork
from pcgraph.scheduler import Scheduler
from pcgraph.simulation.recording import Run
from pcgraph.spec.training import Train

CLASSIFICATION = "classification"


class ThroughTime:
    """The task of a network that learns as a whole.

    So do the shallow networks of Alamia et al. ("On the role of feedback in visual processing: a predictive
    coding perspective"). The loss is the cross-entropy of the output, the mean squared errors of the
    feedback predictions, or both, at every step of a run or at the last. Without any step it is the plain
    network's.

    Args:
        network: What learns.
        settings: Loss, steps, and whose weights move.

    Raises:
        InputError: There is nothing to learn, or no output to classify by.
    """

    def __init__(self, network: PCNetwork, settings: Train) -> None:
        self.network = network
        self.loss = settings.loss
        self.steps = network.spec.schedule.steps if settings.steps is None else settings.steps
        self.save_memory = settings.save_memory
        graph = network.graph
        self.label = _label(network, settings)
        self.terms = [n for n, (edge, *_) in graph.terms.items() if edge.kind == "feedback"]
        if not self.loss.classification and not (self.loss.reconstruction and self.terms):
            hint = "Give 'classification' or 'reconstruction' a weight; the latter needs feedback."
            raise InputError(Fault("there is no loss to learn from", ("train", "loss"), hint))
        plain = self.steps == 0 and not self.loss.reconstruction
        learns = settings.learns or (["backbone"] if plain and network.drive else ["predictors", "backbone"])
        network.requires_grad_(False)
        if "predictors" in learns:
            network.predictors.requires_grad_(True)
            network.starts.requires_grad_(True)
        self.backbone = "backbone" in learns and network.drive is not None
        if self.backbone and network.drive is not None:
            network.drive.requires_grad_(True)
        self.scheduler = Scheduler(network)

    def parameters(self) -> list[nn.Parameter]:
        """All weights that move."""
        return [parameter for parameter in self.network.parameters() if parameter.requires_grad]

    def moments(self, batch: Batch) -> Iterator[Mapping[str, Tensor]]:
        """One moment a batch: the losses, with their weights."""
        run = self._run(batch, differentiable=True)
        with torch.enable_grad():
            losses = self._losses(run, batch.labels)
        yield losses

    def measure(self, batch: Batch) -> Mapping[str, Tensor]:
        """The losses, and where there are classes the accuracy after the last step, and before the first."""
        run = self._run(batch, differentiable=False)
        found = self._losses(run, batch.labels)
        if self.loss.classification:
            found["accuracy"] = _accuracy(self._logits(run, -1), batch.labels)
            if self.steps:
                found["accuracy at step 0"] = _accuracy(self._logits(run, 0), batch.labels)
        return found

    def save(self, folder: Path) -> None:
        """Write the weights of the predictors and the backbone, and the spec."""
        save_network(self.network, folder, backbone=self.backbone)

    def _run(self, batch: Batch, differentiable: bool) -> Run:
        record = []
        if self.loss.classification:
            record.append("output" if self.label is None else f"values:{self.label}")
        if self.loss.reconstruction:
            graph = self.network.graph
            record += [f"predictions:{edge.name}" for term in self.terms for edge in graph.terms[term]]
            record += [
                f"values:{node}" for node in dict.fromkeys(graph.terms[t][0].target for t in self.terms)
            ]
        return self.scheduler.run(
            batch.images,
            self.steps,
            record=record,
            seed=batch.seed,
            places=batch.indices,
            differentiable=differentiable,
            checkpoint=self.save_memory and differentiable,
        )

    def _losses(self, run: Run, labels: Tensor) -> dict[str, Tensor]:
        steps = range(run.steps + 1) if self.loss.at == "every" else [run.steps]
        losses = {}
        if self.loss.classification:
            found = [_cross_entropy(self._logits(run, step), labels) for step in steps]
            losses[CLASSIFICATION] = self.loss.classification * _mean(found)
        for term in self.terms if self.loss.reconstruction else ():
            members = self.network.graph.terms[term]
            target = run.values[members[0].target]
            found = []
            for step in steps:
                first, *others = [run.predictions[edge.name][step] for edge in members]
                found.append(F.mse_loss(sum(others, first), target[step].detach()))
            losses[term] = self.loss.reconstruction * _mean(found)
        return losses

    def _logits(self, run: Run, step: int) -> Tensor:
        output = run.output[step] if self.label is None else run.values[self.label][step]
        if not isinstance(output, Tensor) or output.dim() != 2:
            raise InputError(Fault("the output is no class scores: expected one tensor (batch, classes)"))
        return output


def _label(network: PCNetwork, settings: Train) -> str | None:
    """The node whose state is the class scores; None for the backbone's output."""
    if network.drive is not None and settings.label is None:
        return None
    name = settings.label or "label"
    if name not in network.graph.nodes and settings.loss.classification:
        hint = "Name the node of the class scores as 'label' under 'train'."
        raise InputError(Fault("a network without a backbone has no output to classify by", ("train",), hint))
    return name


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    check_labels(labels, logits.shape[1])
    return F.cross_entropy(logits, labels)


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(dim=1) == labels).float().mean()


def check_labels(labels: Tensor, classes: int) -> None:
    """Make sure that images have classes, and the network as many.

    Raises:
        InputError: They have none, or more than there are.
    """
    least, most = labels.aminmax()
    if least < 0:
        raise InputError(Fault("these images have no classes to learn", hint="Class folders give them some."))
    if most >= classes:
        raise InputError(
            Fault(f"an image is of class {int(most)}, and the network has {classes} (from 0 on)")
        )
