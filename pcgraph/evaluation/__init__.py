"""Evaluation: what the dynamics do to accuracy and states, on clean images, under noise and attack."""

from pcgraph.evaluation.attacks import Attack, AttackedStep
from pcgraph.evaluation.conditions import Condition, Corrupted, Noisy, NoNoise
from pcgraph.evaluation.loop import Settings, evaluate
from pcgraph.evaluation.measures import correlation_distance
from pcgraph.evaluation.statistics import ALEXNET, Bootstrap, Fall, Interval, fall, interval
from pcgraph.evaluation.store import Measured, read_measured
from pcgraph.evaluation.table import Row, read_table, tabulate

__all__ = [
    "ALEXNET",
    "Attack",
    "AttackedStep",
    "Bootstrap",
    "Condition",
    "Corrupted",
    "Fall",
    "Interval",
    "Measured",
    "NoNoise",
    "Noisy",
    "Row",
    "Settings",
    "correlation_distance",
    "evaluate",
    "fall",
    "interval",
    "read_measured",
    "read_table",
    "tabulate",
]
