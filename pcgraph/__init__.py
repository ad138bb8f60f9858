"""pcgraph: predictive coding on the graph of any network.

The names are imported when they are first used, so that reading specs needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pcgraph.display.garbage import uncollected

if TYPE_CHECKING:
    from pcgraph.acceleration import Optimized, choose_convolutions
    from pcgraph.acceleration import optimize as optimize
    from pcgraph.analysis.stability import EdgeLimit, edge_limits, spectral_radius, step_eigenvalue
    from pcgraph.building.network import build
    from pcgraph.errors import (
        DivergenceError,
        InputError,
        ModelError,
        PCGraphError,
        PCGraphWarning,
        SpecError,
    )
    from pcgraph.graph import PCGraph
    from pcgraph.learning import learn
    from pcgraph.network import PCNetwork
    from pcgraph.queries import Answer, query
    from pcgraph.report.notebook import wiring_html as wiring_html
    from pcgraph.scheduler import Scheduler
    from pcgraph.simulation.recording import Run
    from pcgraph.simulation.tape import Tape
    from pcgraph.spec import Spec, load_spec, parse_spec
    from pcgraph.state import State
    from pcgraph.tracing import Drive, Table, trace

__version__ = "0.1.0"

_HOMES = {
    "acceleration": ("Optimized", "choose_convolutions", "optimize"),  # the last for `PCNetwork.optimize`
    "errors": ("DivergenceError", "InputError", "ModelError", "PCGraphError", "PCGraphWarning", "SpecError"),
    "graph": ("PCGraph",),
    "learning": ("learn",),
    "building": ("build",),
    "network": ("PCNetwork",),
    "queries": ("Answer", "query"),
    "report.notebook": ("wiring_html",),  # for notebooks, which ask the objects; not in __all__
    "simulation.recording": ("Run",),
    "analysis.stability": ("EdgeLimit", "edge_limits", "spectral_radius", "step_eigenvalue"),
    "scheduler": ("Scheduler",),
    "spec": ("Spec", "load_spec", "parse_spec"),
    "state": ("State",),
    "simulation.tape": ("Tape",),
    "tracing": ("Drive", "Table", "trace"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Answer",
    "DivergenceError",
    "Drive",
    "EdgeLimit",
    "InputError",
    "ModelError",
    "Optimized",
    "PCGraph",
    "PCGraphError",
    "PCGraphWarning",
    "PCNetwork",
    "Run",
    "Scheduler",
    "Spec",
    "SpecError",
    "State",
    "Table",
    "Tape",
    "build",
    "choose_convolutions",
    "edge_limits",
    "learn",
    "load_spec",
    "parse_spec",
    "query",
    "spectral_radius",
    "step_eigenvalue",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pcgraph' has no attribute '{name}'")
    with uncollected():
        return getattr(importlib.import_module(f"pcgraph.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
