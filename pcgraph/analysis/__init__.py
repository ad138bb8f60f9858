"""What a network does, found out: does it settle, which edge matters, how alike are its states."""

from pcgraph.analysis.cost import step_cost, step_memory
from pcgraph.analysis.edges import GainGradient, LesionEffect, gain_gradients, lesion_effects
from pcgraph.analysis.export import datasets, save_npz, states_of
from pcgraph.analysis.inputs import Inputs
from pcgraph.analysis.lesion import lesioned
from pcgraph.analysis.long_run import LongRun, long_run
from pcgraph.analysis.modes import Mode, leading_modes
from pcgraph.analysis.overview import ANALYSES, Analysed, analyse
from pcgraph.analysis.per_unit import TermError, per_unit
from pcgraph.analysis.settling import Stability, stability
from pcgraph.analysis.similarity import Geometry, compare_rdms, geometries, linear_cka, rdms

__all__ = [
    "ANALYSES",
    "Analysed",
    "GainGradient",
    "Geometry",
    "Inputs",
    "LesionEffect",
    "LongRun",
    "Mode",
    "Stability",
    "TermError",
    "analyse",
    "compare_rdms",
    "datasets",
    "gain_gradients",
    "geometries",
    "leading_modes",
    "lesion_effects",
    "lesioned",
    "linear_cka",
    "long_run",
    "per_unit",
    "rdms",
    "save_npz",
    "stability",
    "states_of",
    "step_cost",
    "step_memory",
]
