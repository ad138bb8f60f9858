"""The task that a spec asks for."""

from __future__ import annotations

from pcgraph.learning.feedback import Feedback
from pcgraph.network import PCNetwork
from pcgraph.spec.training import Train
from pcgraph.training.task import Task


def make_task(network: PCNetwork, settings: Train) -> Task:
    """What `pcgraph train` trains.

    Raises:
        InputError: The network cannot learn that.
    """
    return Feedback(network)
