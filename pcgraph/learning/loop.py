"""The loop that all learning rules share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pcgraph.errors import DivergenceError, Fault, InputError, closest
from pcgraph.learning.compiled import Compiled
from pcgraph.learning.local import Local, Values
from pcgraph.learning.rules import RULES, Moment, Rule, RuleName
from pcgraph.learning.stability import stability_margin
from pcgraph.network import PCNetwork
from pcgraph.training.gradients import clear, differentiate
from pcgraph.training.threads import fitting_threads


@dataclass(frozen=True)
class Update:
    """What the weights learned from one batch.

    Attributes:
        values: The states at which they moved last, (batch, *shape) by node.
        energy: The energy of each error term then, averaged over the batch.
        start: The loss of each learned first guess of the states, by ``start:EDGE``; no part of the energy.
    """

    values: Values
    energy: Mapping[str, Tensor]
    start: Mapping[str, Tensor]

    @property
    def total(self) -> float:
        """The energy of all terms."""
        return sum(map(float, self.energy.values()))


def learn(
    network: PCNetwork,
    batches: Iterable[Mapping[str, Tensor]],
    optimizer: torch.optim.Optimizer,
    *,
    rule: RuleName = "il",
    steps: int | None = None,
    compiled: bool = False,
) -> Iterator[Update]:
    """Let the weights follow the energy, batch by batch.

    It is a generator: nothing happens until it is iterated, and it can be left at any batch.

    Args:
        network: A network with dynamics ``rule: energy``. All parameters that require gradients learn:
            the predictors', learned precisions', the first guesses' (by ``il`` and ``ipc``), and the
            backbone's once it is unfrozen with ``network.drive.requires_grad_(True)``.
        batches: For each batch what is clamped: values (batch, *shape) by node.
        optimizer: Any optimizer of these parameters. Their ``grad`` is set to the gradient of the
            energy (of learned first guesses: of their own loss), averaged over the batch.
        rule: ``il``: after inference; ``ipc``: at every step of it; ``fpa``: fixed prediction
            assumption; ``zil``: zero-divergence; ``bp``: backpropagation. The last three need a graph
            without cycles.
        steps: Steps of inference; left out, the spec's.
        compiled: Whether the whole work of a batch becomes one compiled function, of the weights and of
            batches like the first; with SGD, Adam and AdamW on a processor their step is part of it. It takes
            a while, and later processes load it (`pcgraph cache`). What cannot be compiled, such as ``ipc``,
            goes uncompiled after a warning.

    Yields:
        What was learned from the batch, after the weights have moved.

    Raises:
        InputError: An unknown rule, a clamp that does not fit, or a graph that the rule cannot learn on.
        DivergenceError: A state is not finite.

    Example:
        >>> optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        >>> for update in learn(network, [{"image": images, "label": one_hot}], optimizer, rule="ipc"):
        ...     print(update.total)
    """
    local, infer = Local(network), find_rule(rule, compiled, optimizer, torch.get_num_threads())
    steps = network.spec.schedule.steps if steps is None else steps
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    threads = fitting_threads(network)
    for clamp in batches:
        with threads(len(next(iter(clamp.values()), ()))):
            for moment in moments(local, infer, clamp, steps):
                clear(parameters)
                differentiate(moment.losses, parameters)
                if not moment.moved:
                    optimizer.step()
                update = Update(moment.values, _detached(moment.energy), _detached(moment.start))
        yield update


def moments(local: Local, infer: Rule, clamp: Values, steps: int) -> Iterator[Moment]:
    """What a rule yields for one batch, and the way out where its states run away.

    The weights may move between two moments, and nowhere else.

    Raises:
        InputError: The rule makes no step.
        DivergenceError: A state is not finite; says whether the rates are too high.
    """
    moment: Moment | None = None
    try:
        for moment in infer(local, clamp, steps):
            yield moment
        if moment is None:
            raise InputError(Fault("the learning rule made no step", hint="'steps' is at least 1."))
        if moment.gradients is None:  # whoever made them has looked
            _check_finite(moment, steps)
    except DivergenceError as error:
        raise DivergenceError(error.node, error.step, _advice(local.network, clamp)) from None


def weight_gradients(
    network: PCNetwork, clamp: Mapping[str, Tensor], *, rule: RuleName = "il", steps: int | None = None
) -> dict[str, Tensor]:
    """The gradient that `learn` would give each weight for one batch; no weight moves.

    Returns:
        By parameter name, for those that require gradients; zeros where the energy does not depend on one.
    """
    local, infer = Local(network), find_rule(rule)
    steps = network.spec.schedule.steps if steps is None else steps
    *_, moment = infer(local, clamp, steps)
    kept = [parameter.grad for parameter in network.parameters()]
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    clear(parameters)
    differentiate(moment.losses, parameters)
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    for parameter, before in zip(network.parameters(), kept, strict=True):
        parameter.grad = before
    return gradients


def batches(
    data: Mapping[str, Tensor], size: int, generator: torch.Generator | None = None
) -> Iterator[dict[str, Tensor]]:
    """Cut tensors that belong together into shuffled batches; what does not fill the last is left out.

    Args:
        data: Tensors of equal length by node name.
        size: Images a batch.
        generator: Source of the order.
    """
    count = len(next(iter(data.values())))
    order = torch.randperm(count, generator=generator)
    for rows in torch.split(order, size):
        if len(rows) == min(size, count):
            yield {name: values[rows.to(values.device)] for name, values in data.items()}


def find_rule(
    name: str, compiled: bool = False, optimizer: torch.optim.Optimizer | None = None, threads: int = 1
) -> Rule:
    """The learning rule of this name, compiled or not; see `Compiled`.

    Raises:
        InputError: There is none.
    """
    if name not in RULES:
        raise InputError(Fault(f"there is no learning rule '{name}'", hint=closest(name, RULES)))
    return Compiled(RULES[name], optimizer, threads) if compiled else RULES[name]


def _detached(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: loss.detach() if loss.requires_grad else loss for name, loss in losses.items()}


def _check_finite(moment: Moment, steps: int) -> None:
    if not torch.isfinite(torch.stack(list(moment.energy.values()))).all():
        broken = [name for name, value in moment.values.items() if not torch.isfinite(value).all()]
        raise DivergenceError(broken[0] if broken else next(iter(moment.values)), steps)


def _advice(network: PCNetwork, clamp: Mapping[str, Tensor]) -> str:
    """Whether the rate is too high for these weights, or the weights themselves ran away."""
    margin = stability_margin(network, clamp)
    if margin < 1:
        return f"Lower the rates under 'dynamics': with these weights to {margin:.2g} times what they are."
    return "Lower the optimizer's learning rate: the weights, or a free state without a minimum, ran away."
