"""The task that a spec asks for."""

from __future__ import annotations

from pcgraph.dynamics.gains import Energy
from pcgraph.learning.energy import ByEnergy
from pcgraph.learning.feedback import Feedback
from pcgraph.learning.through_time import ThroughTime
from pcgraph.network import PCNetwork
from pcgraph.spec.training import Train
from pcgraph.training.task import Task


def make_task(network: PCNetwork, settings: Train) -> Task:
    """What `pcgraph train` trains.

    Raises:
        InputError: The network cannot learn that.
    """
    task = settings.task or ("energy" if isinstance(network.dynamics, Energy) else "feedback")
    if task == "through_time":
        return ThroughTime(network, settings)
    return ByEnergy(network, settings) if task == "energy" else Feedback(network)
