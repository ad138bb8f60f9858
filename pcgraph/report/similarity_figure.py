"""How alike states are, node by step: linear CKA with the clean images, the beginning, or another network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pcgraph.display.safe import figure_text
from pcgraph.display.text import shortened
from pcgraph.report.figures import DARK, FADED, INK, NOTHING, shade


class State(NamedTuple):
    """A node's state, of a network under a condition at a step."""

    network: str
    condition: str
    node: str
    step: int


Pairs = Mapping[tuple[State, State], float]
KEYS = State._fields
CELL = (0.42, 0.3)
"""Inches."""
ROOM = 16
"""Steps up to which each cell has its number."""
LONGEST = 22
FULL = "#5b8fc4"


def similarity_figure(rows: Iterable[Mapping[str, Any]]) -> Figure | None:
    """A map for each network and condition; None where there is no row.

    Clean images (the first condition): each node's states against those of its own step 0. Other conditions:
    against the clean images at the same step. Other networks than the first, too: against the first, under
    the same condition at the same step, where it has the node.

    Args:
        rows: Of ``similarity.csv``.
    """
    pairs = _pairs(rows)
    if not pairs:
        return None
    states = list(dict.fromkeys(state for pair in pairs for state in pair))
    networks, conditions = (list(dict.fromkeys(state[at] for state in states)) for at in (0, 1))
    first, clean = str(networks[0]), str(conditions[0])
    maps: dict[str, dict[tuple[str, int], float]] = {}
    for network, condition in dict.fromkeys(state[:2] for state in states):
        own, name = [one for one in states if one[:2] == (network, condition)], f"{network}, {condition}"
        if condition == clean:
            maps[f"{name}: with step 0"] = _values(pairs, {one: one._replace(step=0) for one in own})
        else:
            maps[f"{name}: with clean"] = _values(pairs, {one: one._replace(condition=clean) for one in own})
        if network != first:
            maps[f"{name}: with {first}"] = _values(pairs, {one: one._replace(network=first) for one in own})
    return _figure({name: found for name, found in maps.items() if found})


def _pairs(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[State, State], float]:
    found: dict[tuple[State, State], float] = {}
    for row in rows:
        one, other = (State(*(row[f"{before}{key}"] for key in KEYS)) for before in ("", "other_"))
        found[one, other] = found[other, one] = row["cka"]
    return found


def _values(pairs: Pairs, others: Mapping[State, State]) -> dict[tuple[str, int], float]:
    """CKA of each state with another, by node and step; 1 with itself."""
    return {
        (one.node, one.step): 1.0 if one == other else pairs[one, other]
        for one, other in others.items()
        if one == other or (one, other) in pairs
    }


def _figure(maps: Mapping[str, Mapping[tuple[str, int], float]]) -> Figure:
    nodes = {name: list(dict.fromkeys(node for node, _ in found)) for name, found in maps.items()}
    steps = 1 + max(step for found in maps.values() for _, step in found)
    cell = CELL[0] if steps <= ROOM else 0.14
    heights = [0.72 + CELL[1] * len(nodes[name]) for name in maps]
    width, height = max(1.9 + cell * steps, 5.6), 0.6 + sum(heights)
    figure = Figure(figsize=(width, height), facecolor="white")
    said = "similarity of states (linear CKA): 1 is alike up to rotation and scale"
    figure.text(0.12 / width, 1 - 0.12 / height, said, size=9, color=INK, va="top")
    at = height - 0.5
    for (name, found), tall in zip(maps.items(), heights, strict=True):
        at -= tall
        box = (1.6 / width, (at + 0.4) / height, cell * steps / width, (tall - 0.72) / height)
        _draw_map(figure.add_axes(box), name, found, nodes[name], steps)
    return figure


def _draw_map(
    axes: Axes, name: str, found: Mapping[tuple[str, int], float], nodes: Sequence[str], steps: int
) -> None:
    for (node, step), value in found.items():
        row = nodes.index(node)
        colour = similarity_colour(value)
        axes.add_patch(Rectangle((step - 0.48, row - 0.46), 0.96, 0.92, facecolor=colour))
        if steps <= ROOM:
            axes.text(step, row, f"{value:.2f}", size=7, color=DARK, ha="center", va="center")
    axes.set(xlim=(-0.5, steps - 0.5), ylim=(-0.5, len(nodes) - 0.5))
    axes.set_xticks(range(0, steps, max(1, steps // ROOM)))
    axes.set_yticks(range(len(nodes)), [figure_text(shortened(node, LONGEST)) for node in nodes])
    axes.tick_params(length=0, labelsize=8, colors=FADED)
    axes.spines[:].set_visible(False)
    axes.set_title(figure_text(shortened(name, 80)), size=8.5, loc="left", color=INK)
    axes.set_xlabel("step", size=8, color=FADED, labelpad=0)


def similarity_colour(value: float) -> str:
    """The fuller the more alike."""
    if np.isnan(value):
        return NOTHING
    return shade(FULL, float(np.clip(value, 0, 1)))
