"""Studies: wirings that differ in one thing, trained, measured and compared."""

from pcgraph.study.arms import Arms, Wiring
from pcgraph.study.cells import Cell
from pcgraph.study.engine import run_cells
from pcgraph.study.file import Study, load_study
from pcgraph.study.plan import Plan
from pcgraph.study.results import Results
from pcgraph.study.store import CellStore

__all__ = ["Arms", "Cell", "CellStore", "Plan", "Results", "Study", "Wiring", "load_study", "run_cells"]
