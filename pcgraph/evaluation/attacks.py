"""Adversarial attacks on any step's output, with gradients through the unrolled dynamics."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pcgraph.datasets.images import normalise
from pcgraph.datasets.noise import mixed_seed
from pcgraph.errors import Fault, InputError, closest
from pcgraph.evaluation.conditions import Clean, parse_numbers
from pcgraph.evaluation.measures import Drawn, every_step
from pcgraph.scheduler import Scheduler
from pcgraph.simulation.pullback import Differentiable
from pcgraph.spec import Preprocess

Kind = Literal["bim", "pgd"]
KINDS: tuple[Kind, ...] = ("bim", "pgd")
TARGET_SHIFT = 0.8
"""A targeted attack aims at the class this share of all classes further on: 800 of ImageNet's 1,000."""


class AttackedStep(nn.Module):
    """A network with its dynamics as a plain classifier: pixels to what it answers at one step.

    Args:
        scheduler: Of the network; its weights are not touched.
        step: The step whose output is attacked.
        preprocess: How pixels from 0 to 1 are normalised.
        differentiable: True takes the error gradients into account, ``"first_order"`` does not.
        checkpoint: Compute each step again in the backward pass, which takes less memory.
        drawn: What a random backbone draws by, the same at each call; the attack knows it.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        step: int,
        preprocess: Preprocess,
        differentiable: Differentiable = True,
        checkpoint: bool = False,
        drawn: Drawn | None = None,
    ) -> None:
        super().__init__()
        self.scheduler = scheduler
        self.step = step
        self.preprocess = preprocess
        self.differentiable = differentiable
        self.checkpoint = checkpoint
        self.drawn = drawn
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (batch, classes) at the attacked step for pixels (batch, channels, height, width)."""
        differentiable: Differentiable = False
        if pixels.requires_grad and torch.is_grad_enabled():
            differentiable = self.differentiable
        drawn = self.drawn
        run = self.scheduler.run(
            normalise(pixels, self.preprocess),
            self.step,
            seed=drawn.seed if drawn else 0,
            places=drawn.places[: len(pixels)] if drawn else None,
            record=[],
            tolerance=every_step(self.scheduler),
            differentiable=differentiable,
            checkpoint=self.checkpoint,
        )
        logits: Tensor = self.scheduler.readout(run.state, differentiable=differentiable)
        return logits


@dataclass(frozen=True)
class Attack:
    """An attack in the maximum norm: signed gradient steps, projected onto the ball around the image.

    Attributes:
        kind: ``bim`` starts at the image (Kurakin et al., 2017), ``pgd`` at a random point of the ball
            (Madry et al., 2018).
        epsilon: Radius of the ball, for pixels from 0 to 1.
        step: The step of the dynamics whose output is attacked.
        iterations: Gradient steps, each ``2.5 / iterations`` of epsilon long.
        targeted: Towards one class instead of away from the right one; see `TARGET_SHIFT`.
        differentiable: See `AttackedStep`.
    """

    kind: Kind
    epsilon: float
    step: int
    iterations: int = 20
    targeted: bool = False
    differentiable: Differentiable = True

    @property
    def noise(self) -> str:
        """Such as ``pgd@4``, or ``pgd-targeted@4``: the kind and the step that is attacked."""
        return f"{self.kind}{'-targeted' if self.targeted else ''}@{self.step}"

    @property
    def level(self) -> float:
        """Epsilon."""
        return self.epsilon

    def inputs(self, clean: Clean) -> Tensor:
        """The adversarial images; unlabelled images are led away from the clean answer."""
        labels = torch.where(clean.labels < 0, clean.answers[self.step], clean.labels)
        drawn = Drawn(clean.seed, clean.indices)
        model = AttackedStep(clean.scheduler, self.step, clean.preprocess, self.differentiable, drawn=drawn)
        seeds = [mixed_seed(clean.seed, index) for index in clean.indices.tolist()]
        return normalise(self.adversarial(model, clean.pixels, labels, seeds), clean.preprocess)

    def adversarial(self, model: AttackedStep, pixels: Tensor, labels: Tensor, seeds: list[int]) -> Tensor:
        """Attack a batch.

        Args:
            model: What is attacked.
            pixels: (batch, channels, height, width) from 0 to 1.
            labels: (batch,) the right classes.
            seeds: One for each image's random start.

        Returns:
            Adversarial pixels from 0 to 1, no further than epsilon from ``pixels``.

        Raises:
            InputError: foolbox is not installed.
        """
        foolbox = check_available()
        device = model.scheduler.network.device
        pixels, labels = pixels.to(device), labels.to(device)
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=device)
        criterion = foolbox.Misclassification(labels)
        if self.targeted:
            with torch.no_grad():
                classes = model(pixels[:1]).shape[1]
            criterion = foolbox.TargetedMisclassification(target_classes(labels, classes))
        attack = _attack(self, seeds)
        found: Tensor = attack(wrapped, pixels, criterion, epsilons=self.epsilon)[1]
        return found.detach().clamp(0, 1).cpu()

    def hits(self, answers: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Where the attack reached its aim: the target class, or any class but the right one.

        Args:
            answers: (steps + 1, batch) classes.
            labels: (batch,) the right ones.
            classes: How many there are.
        """
        return answers == target_classes(labels, classes) if self.targeted else answers != labels


def target_classes(labels: Tensor, classes: int) -> Tensor:
    """The class that a targeted attack aims at, for each right class."""
    return (labels + int(TARGET_SHIFT * classes)) % classes


def parse_attack(text: str, steps: list[int], iterations: int, targeted: bool) -> list[Attack]:
    """Read ``pgd:0.01,0.03``: a kind of attack and its epsilons.

    Raises:
        InputError: An unknown kind, or an epsilon that is no number above 0 and up to 1.
    """
    kind, _, levels = text.partition(":")
    if kind not in KINDS:
        raise InputError(Fault(f"attack '{text}': unknown kind '{kind}'", hint=closest(kind, KINDS)))
    found = []
    for epsilon in parse_numbers(levels, f"--attack {kind}"):
        if not 0 < epsilon <= 1:
            raise InputError(
                Fault(
                    f"--attack {kind}: epsilon is {epsilon:g}, expected a number above 0 and up to 1",
                    hint="Pixels run from 0 to 1: 8/255 is 0.0314.",
                )
            )
        found += [Attack(kind, epsilon, step, iterations, targeted) for step in steps]
    return found


def _attack(settings: Attack, seeds: list[int]) -> Any:
    """The attack of foolbox, with a random start that each image draws by its own seed."""
    from eagerpy.tensor.pytorch import PyTorchTensor
    from foolbox.attacks.gradient_descent_base import LinfBaseGradientDescent

    class SeededLinf(LinfBaseGradientDescent):
        def get_random_start(self, x0: Any, epsilon: float) -> Any:
            starts = []
            for seed in seeds:
                generator = torch.Generator().manual_seed(seed)
                starts.append(torch.rand(x0.shape[1:], generator=generator, dtype=x0.raw.dtype))
            return x0 + PyTorchTensor((2 * torch.stack(starts) - 1).to(x0.raw.device) * epsilon)

        def value_and_grad(self, loss_fn: Any, x: Any) -> tuple[Any, Any]:
            """Without `Tensor.backward`, which would leave gradients at the network's weights."""
            pixels = x.raw.detach().requires_grad_()
            loss = loss_fn(PyTorchTensor(pixels)).raw
            (gradient,) = torch.autograd.grad(loss, pixels)
            return PyTorchTensor(loss.detach()), PyTorchTensor(gradient)

    return SeededLinf(
        rel_stepsize=2.5 / settings.iterations, steps=settings.iterations, random_start=settings.kind == "pgd"
    )


def check_available() -> Any:
    """The library foolbox.

    Raises:
        InputError: It is not installed.
    """
    # foolbox imports GitPython, which refuses to be imported where there is no git
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    try:
        import foolbox
    except ImportError:
        raise InputError(
            Fault("attacks need foolbox, which is not installed", hint="pip install 'pcgraph[evaluate]'")
        ) from None
    return foolbox
