"""What feedback is compared with: networks without it that learn as long, from the same noisy images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pcgraph.analysis.cost import step_cost
from pcgraph.building.network import build
from pcgraph.datasets import batch_count
from pcgraph.dynamics.own_gains import OwnGains
from pcgraph.errors import Fault, SpecError
from pcgraph.spec import Fitting, Train, Tune
from pcgraph.study.arms import Arms, Wiring
from pcgraph.study.denoiser import Size, size_like
from pcgraph.study.file import Study
from pcgraph.study.images import StudyImages

NOT_ASKED = {"data", "validation", "checkpoint", "keep"}


@dataclass(frozen=True)
class Budget:
    """What a control learns, and the arm that it is to be compared with.

    Attributes:
        like: That arm.
        updates: Updates that the feedback of that arm gets, and the control's.
        parameters: Weights of that feedback, and those of the control that learn.
        multiply_adds: Those of that arm's steps for one image, and of what the control does besides the plain
            network; None where they cannot be told.
        size: The denoiser's; None where the backbone learns.
    """

    like: str
    updates: tuple[int, int]
    parameters: tuple[int, int]
    multiply_adds: tuple[int | None, int]
    size: Size | None


class Controls:
    """How long everything learns, and what the controls are.

    Args:
        study: The file.
        arms: Its wirings.
        images: Its images.
        steps: How many steps of an arm are evaluated.

    Attributes:
        budgets: By name of a control.

    Raises:
        SpecError: At its place in the study file: edges' own gains alone are tuned, and an arm with feedback
            has none; or a denoiser shall be like an arm whose multiply-adds cannot be told, or the network
            takes no images.
    """

    def __init__(self, study: Study, arms: Arms, images: StudyImages, steps: Callable[[Wiring], int]) -> None:
        self.study, self.arms, self._images, self._steps = study, arms, images, steps
        for arm in arms.wirings if study.tune is not None else ():
            self._check_gains(arm)
        by_name = {one.name: one for one in arms.wirings}
        self.budgets = {
            one.name: self._budget(one, by_name[one.like]) for one in arms.wirings if one.like is not None
        }

    def updates(self, arm: Wiring) -> int:
        """How often the weights or gains of an arm, or of a control, move in training and tuning together."""
        if arm.name in self.budgets:
            return self.budgets[arm.name].updates[1]
        return self._updates(arm) if arm.edges else 0

    def content(self, arm: Wiring) -> dict[str, Any]:
        """What the content of a control's cell says of how it learns."""
        tune, budget = _tuning(arm), self.budgets[arm.name]
        own = {name: getattr(tune, name) for name in Fitting.model_fields if name not in NOT_ASKED}
        epochs = budget.updates[1] // self._per_epoch("tune", tune)
        how = {**own, "epochs": epochs, "task": "through_time", "learns": ["backbone"], "steps": 0}
        learning = Train(**how, validation=tune.validation).model_dump(mode="json", exclude_defaults=True)
        noise = tune.noise.model_dump(mode="json", exclude_defaults=True)
        return {"learning": learning, "noise": noise, "size": budget.size and budget.size.plain()}

    def _budget(self, control: Wiring, like: Wiring) -> Budget:
        assert control.control is not None
        wanted, epoch = self._updates(like), self._per_epoch("tune", _tuning(control))
        updates = wanted, -(-wanted // epoch) * epoch
        network = build(like.spec, trust=self.arms.trust, weights=False)
        feedback = sum(weight.numel() for weight in network.predictors.parameters())
        step = step_cost(network)
        cost = None if step is None else step * self._steps(like)
        if control.control.learns == "denoiser":
            return self._denoiser(control, like, updates, feedback, cost)
        drive = build(control.spec, trust=self.arms.trust, weights=False).drive
        assert drive is not None
        own = sum(weight.numel() for weight in drive.model.parameters())
        return Budget(like.name, updates, (feedback, own), (cost, 0), None)

    def _denoiser(
        self, control: Wiring, like: Wiring, updates: tuple[int, int], feedback: int, cost: int | None
    ) -> Budget:
        shape = self.arms.graph.nodes[self.arms.graph.receiver].shape
        why = "" if len(shape) == 3 else f"the network takes no images, but {shape}"
        if cost is None or not feedback:
            why = f"the weights and multiply-adds of '{like.name}' cannot be told"
        if why or cost is None:
            fault = Fault(f"no denoiser for '{control.name}': {why}", ("controls", control.name))
            raise SpecError(self.study.located(fault))
        size = size_like(shape, feedback, cost)
        found = size.parameters(shape[0]), size.multiply_adds(shape)
        return Budget(like.name, updates, (feedback, found[0]), (cost, found[1]), size)

    def _check_gains(self, arm: Wiring) -> None:
        """Where edges' own gains alone are tuned, an arm with feedback has some."""
        if not arm.edges or _tuning(arm).learns != ["edges"]:
            return
        graph = build(arm.spec, trust=self.arms.trust, weights=False).graph
        free = [node for node in graph.nodes if node != graph.receiver]
        if not OwnGains(graph, dict.fromkeys(free, 0.0)).plain():
            hint = "Write 'gain' or 'error' on its edges, or 'learns: [dynamics, edges]'."
            message = f"no edge of '{arm.name}' has a gain of its own that can learn"
            raise SpecError(self.study.located(Fault(message, ("tune", "learns"), hint)))

    def _updates(self, arm: Wiring) -> int:
        train = arm.spec.train or Train()
        first = 0 if self.study.train is None else train.epochs * self._per_epoch("train", train)
        tune = _tuning(arm)
        return first + (0 if self.study.tune is None else tune.epochs * self._per_epoch("tune", tune))

    def _per_epoch(self, section: str, settings: Fitting) -> int:
        """Batches an epoch, as the engine counts them."""
        images = self._images.count(section)
        left = images - round(settings.validation * images)
        return batch_count(range(left), settings.batch, drop_last=left > settings.batch)


def _tuning(arm: Wiring) -> Tune:
    return arm.spec.tune or Tune()
