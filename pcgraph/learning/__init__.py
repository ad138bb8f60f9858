"""Learning: the weights of a network follow the energy, by inference learning and its variants."""

from pcgraph.learning.dynamics import DynamicsTask, with_noise
from pcgraph.learning.energy import ByEnergy
from pcgraph.learning.feedback import Feedback
from pcgraph.learning.loop import Update, batches, learn, weight_gradients
from pcgraph.learning.rules import RULES
from pcgraph.learning.stability import EnergyWatch, stability_margin
from pcgraph.learning.tasks import make_task
from pcgraph.learning.through_time import ThroughTime

__all__ = [
    "RULES",
    "ByEnergy",
    "DynamicsTask",
    "EnergyWatch",
    "Feedback",
    "ThroughTime",
    "Update",
    "batches",
    "learn",
    "make_task",
    "stability_margin",
    "weight_gradients",
    "with_noise",
]
