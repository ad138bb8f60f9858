"""The task that a spec asks for."""

from __future__ import annotations

from pcgraph.errors import Fault, InputError
from pcgraph.learning.energy import ByEnergy
from pcgraph.learning.feedback import Feedback
from pcgraph.learning.through_time import ThroughTime
from pcgraph.network import PCNetwork
from pcgraph.spec.training import Train
from pcgraph.training.task import Task


def make_task(network: PCNetwork, settings: Train, compiled: bool = False) -> Task:
    """What `pcgraph train` trains.

    Args:
        network: What learns.
        settings: The spec's section.
        compiled: Whether the work of a batch is compiled, of task `energy` alone.

    Raises:
        InputError: The network cannot learn that, or it cannot be compiled.
    """
    task = settings.task_under(network.spec.dynamics.rule)
    if compiled and task != "energy":
        message = f"task '{task}' of 'train' cannot be compiled"
        raise InputError(Fault(message, hint="Only task 'energy' can: leave out --compile."))
    if task == "through_time":
        return ThroughTime(network, settings)
    return ByEnergy(network, settings, compiled) if task == "energy" else Feedback(network)
