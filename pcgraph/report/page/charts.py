"""Small charts as SVG that takes its colours from the page, and so from light and dark."""

from __future__ import annotations

import io
import math
import re
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from pcgraph.display.safe import printable
from pcgraph.report.figures import CYCLE, FADED, GRID, INK, times_ten
from pcgraph.runs.figures import lay_out

Numbers = NDArray[np.float64]
SIZE = (4.3, 2.75)
"""Inches; the page scales it."""
PIXELS = 4 / 3
"""Of a point, so that texts have the size of the page's."""
POINTS = 40
"""Up to so many points, a line has markers, and each says its value where the mouse rests."""
SLOT = "#00a1{:02x}"
"""What a colour of the page is called while matplotlib draws; see `COLOURS`."""
COLOURS = {
    INK: "var(--ink)",
    FADED: "var(--faded)",
    GRID: "var(--grid)",
    "#f5f8fc": "var(--box)",
    "#e4ebf4": "var(--box-image)",
    "#fdf7ea": "var(--box-free)",
    "#ffffff": "var(--paper)",
    **{colour: f"var(--c{place})" for place, colour in enumerate(CYCLE)},
}
"""Colours of our drawings, as variables of the page."""
CATEGORIES, LEVELS = 8, 8
"""How many colours there are for things and for levels of a thing."""
FONTS = "'DejaVu Sans', Verdana, sans-serif"
"""Verdana is as wide as the font that texts are measured with."""
SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
ET.register_namespace("", SVG)
ET.register_namespace("xlink", XLINK)
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SLOT = re.compile(r"#00a1([0-9a-f]{2})")


def category(index: int) -> str:
    """The colour of the thing number ``index``."""
    return SLOT.format(index % CATEGORIES)


def level(index: int, count: int) -> str:
    """The colour of a level; the levels are spread from the coldest colour to the hottest."""
    return SLOT.format(CATEGORIES + round(index * (LEVELS - 1) / max(count - 1, 1)))


def css(colour: str) -> str:
    """A colour of `category` or `level` as the page's style sheet names it."""
    return _SLOT.sub(lambda match: f"var(--c{int(match[1], 16)})", colour)


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: What it shows.
        x: Where its points are.
        y: Their values; NaN leaves a gap.
        colour: From `category` or `level`.
        low: Lower ends of the points' intervals; empty for none.
        high: Upper ends.
        dashed: Whether the stroke is dashed.
    """

    name: str
    x: Numbers
    y: Numbers
    colour: str
    low: Numbers | None = None
    high: Numbers | None = None
    dashed: bool = False

    @property
    def reach(self) -> Numbers:
        """All finite values that it shows, its intervals included."""
        parts = [part for part in (self.y, self.low, self.high) if part is not None]
        values = np.concatenate(parts) if parts else np.zeros(0)
        return values[np.isfinite(values)]


@dataclass(frozen=True)
class Axis:
    """What both axes of several charts have in common.

    Attributes:
        x: What lies along the horizontal axis.
        share: Whether the values are shares, from 0 to 1.
        log: Whether the vertical axis is logarithmic (asked for; it needs positive values).
    """

    x: str = "step"
    share: bool = False
    log: bool = False


Limits = tuple[float, float] | None


def limits(lines: Sequence[Line], axis: Axis) -> Limits:
    """The range of values that holds all lines, with a little air; None where there is no value."""
    values = np.concatenate([line.reach for line in lines]) if lines else np.zeros(0)
    if axis.log:
        values = values[values > 0]
    if not values.size:
        return None
    low, high = float(values.min()), float(values.max())
    if axis.log:
        air = max((math.log10(high) - math.log10(low)) * 0.06, 0.05)
        return 10 ** (math.log10(low) - air), 10 ** (math.log10(high) + air)
    if axis.share and low >= 0 and high <= 1 and high - low > 0.25:
        return -0.03, 1.03
    air = (high - low) * 0.07 or max(abs(high) * 0.05, 1e-9)
    return low - air, high + air


def draw(title: str, lines: Sequence[Line], axis: Axis, within: Limits, reach: Limits = None) -> str:
    """Draw lines into an `svg` element.

    Args:
        title: What the chart shows, for those who hear the page.
        lines: The lines.
        axis: What the axes mean.
        within: The range of values, so that several charts can have the same.
        reach: The range along the horizontal axis, likewise; left out: that of the lines.
    """
    with matplotlib.rc_context({"text.parse_math": False}):  # a name may hold dollar signs
        figure = Figure(figsize=SIZE, layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.subplots()
        _furnish(axes, axis, within)
        for index, line in enumerate(lines):
            _draw_line(axes, index, line)
        if within is not None:
            axes.set_ylim(*within)
        if reach is not None:
            axes.set_xlim(*reach)
        tips = {f"line{index}": _tips(line, axis) for index, line in enumerate(lines)}
        return svg(figure, title, tips)


def _furnish(axes: Axes, axis: Axis, within: Limits) -> None:
    axes.patch.set_visible(False)
    axes.set_xlabel(axis.x, color=FADED, size=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FADED)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FADED, labelsize=8, length=0)
    axes.tick_params(axis="x", length=3)
    if axis.log:
        axes.set_yscale("log")
        narrow = within is not None and within[1] < 100 * within[0]
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,), numticks=8))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=axis.x in ("step", "epoch")))


def _tick(value: float) -> str:
    """``0.25``, ``1000``, and ``2·10⁶`` for the very large and the very small."""
    text = f"{value:.4g}"
    digits, _, power = text.partition("e")
    return times_ten(digits, int(power)) if power else text


def _draw_line(axes: Axes, index: int, line: Line) -> None:
    if line.low is not None and line.high is not None:
        axes.fill_between(line.x, line.low, line.high, color=line.colour, alpha=0.16, linewidth=0)
    axes.plot(
        line.x,
        line.y,
        color=line.colour,
        linestyle=(0, (4, 2)) if line.dashed else "solid",
        linewidth=1.7,
        marker="o" if len(line.x) <= POINTS else None,
        markersize=3.4,
        gid=f"line{index}",
        clip_on=False,
    )


def _tips(line: Line, axis: Axis) -> list[str]:
    """What each point that is drawn says."""
    if len(line.x) > POINTS:
        return []
    said = []
    for place, (x, y) in enumerate(zip(line.x, line.y, strict=True)):
        if math.isfinite(y) and not (axis.log and y <= 0):
            text = f"{line.name}\n{axis.x} {x:g}: {y:.4g}"
            if line.low is not None and line.high is not None and math.isfinite(line.low[place]):
                text += f" ({line.low[place]:.4g} to {line.high[place]:.4g})"
            said.append(text)
    return said


def svg(figure: Figure, title: str, tips: dict[str, list[str]] | None = None, *, scale: float = 1.0) -> str:
    """A figure as an `svg` element for the inside of a page.

    Its colours become variables of the page, its texts stay texts, and its ids are told apart from
    those of the page's other figures.

    Args:
        figure: The figure.
        title: What it shows.
        tips: By the id of a line, what each of its markers says where the mouse rests.
        scale: Pixels of the page for a point of the figure, where the style sheet sets no width.
    """
    title, buffer = printable(title), io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "text.parse_math": False}):
        lay_out(figure)
        figure.savefig(buffer, format="svg", metadata=nothing)
    root = ET.fromstring(_NOT_XML.sub("\ufffd", buffer.getvalue()))  # our own drawing, nobody's file
    for line, said in (tips or {}).items():
        for group in root.iter(f"{{{SVG}}}g"):
            if group.get("id") == line:
                markers = group.iter(f"{{{SVG}}}use")
                for marker, text in zip(markers, said, strict=False):
                    ET.SubElement(marker, f"{{{SVG}}}title").text = printable(text)
    prefix = f"f{zlib.crc32(buffer.getvalue().encode()):x}-"
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name == "id":
                element.set(name, prefix + value)
            elif name == f"{{{XLINK}}}href" and value.startswith("#"):
                del element.attrib[name]
                element.set("href", f"#{prefix}{value[1:]}")
            else:
                element.set(name, _styled(value.replace("url(#", f"url(#{prefix}")))
    for name in ("width", "height"):
        root.set(name, f"{scale * float(root.get(name, '').removesuffix('pt')):.6g}")
    root.set("role", "img")
    root.set("aria-label", title)
    return ET.tostring(root, encoding="unicode")


def _styled(value: str) -> str:
    value = css(value)
    for colour, variable in COLOURS.items():
        value = value.replace(colour, variable)
    return re.sub(r"(font: (?:\w+ )?[\d.]+px) [^;]+", rf"\1 {FONTS}", value)
