"""What a notebook shows of a network or a graph: its wiring, drawn."""

from __future__ import annotations

import io

from pcgraph.graph import PCGraph
from pcgraph.network import PCNetwork


def wiring_html(wired: PCNetwork | PCGraph) -> str | None:
    """The drawn wiring as SVG; None without matplotlib (the extra ``plot``)."""
    try:
        import matplotlib
    except ImportError:
        return None
    from pcgraph.report.wiring import wiring_figure

    drawn = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "pcgraph"}):
        wiring_figure(wired).savefig(drawn, format="svg", metadata={"Date": None})
    svg = drawn.getvalue()
    return svg[svg.index("<svg") :]
