"""Simulations on a page: answers and energies over the steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pcgraph.report.page.charts import Axis, Line, Numbers, category
from pcgraph.report.page.parts import Chart, Group, Section, Table, group
from pcgraph.report.page.pictures import png_uri, reconstructions
from pcgraph.report.page.reading import RunFolder

SHOWN = 4
"""Images up to which each has a chart of its own."""
TOP = 5
"""Classes of an image that are drawn."""
FEWEST = 5
"""Images from which on a mean has an interval."""
DRAWS = 2000
BAND = "The bands are 95% bootstrap intervals of the mean over the images."
Series = dict[str, dict[str, Numbers]]
"""Values over steps, by name and image."""


def simulation(title: str, runs: Sequence[RunFolder]) -> Section:
    """Runs: the best classes, what became of the first answers, energies and predictions."""
    groups: list[Group] = []
    tables: list[Table] = []
    probability = {run.label: _series(run, "probability") for run in runs}
    energy = {run.label: _series(run, "energy") for run in runs}
    few = [run for run in runs if 0 < len(_images(probability[run.label])) <= SHOWN]
    charts = [
        chart for run in few for chart in _class_charts(run.label, probability[run.label], len(runs) > 1)
    ]
    if charts:
        groups.append(group("Class probabilities", charts, Axis(share=True)))
        tables.append(_class_table(few, probability))
    many = [run for run in runs if len(_images(probability[run.label])) > 1]
    if many:
        charts = [_answers(run.label, probability[run.label]) for run in many]
        groups.append(group("The answer of step 0", charts, Axis(share=True)))
    charts = [_energies(run.label, energy[run.label]) for run in runs if energy[run.label]]
    charts = [chart for chart in charts if chart.lines]
    if charts:
        groups.append(group("Energy of each edge", charts, Axis(log=True)))
        tables.append(_energy_table(runs, energy))
    strips = [strip for run in runs for strip in reconstructions(run, len(runs) > 1)]
    notes = [BAND] if any(len(_images(energy[run.label])) >= FEWEST for run in runs) else []
    notes += [] if strips else [NO_PICTURES]
    untrained = [run.label for run in runs if run.record.get("feedback_trained") is False]
    if untrained:
        notes.append(f"The feedback is not trained, its weights are random: {', '.join(untrained)}.")
    return Section(title, groups, tables, strips, notes=notes)


def query(title: str, runs: Sequence[RunFolder]) -> Section:
    """Queries: the pictures of the answers, and the energies on the way there."""
    energy = {run.label: _series(run, "energy") for run in runs}
    charts = [_energies(run.label, energy[run.label]) for run in runs]
    charts = [chart for chart in charts if chart.lines]
    groups = [group("Energy of each edge", charts, Axis(log=True))] if charts else []
    notes = [BAND] if any(len(_images(energy[run.label])) >= FEWEST for run in runs) else []
    files = [(run.label, run.path / ANSWERS) for run in runs]
    images = [(label if len(runs) > 1 else "", png_uri(file)) for label, file in files if file.is_file()]
    return Section(title, groups, [_energy_table(runs, energy)], images=images, notes=notes)


ANSWERS = "answers.png"
NO_PICTURES = "No pictures of the predictions: record them with --record predictions --record values."


def _series(run: RunFolder, quantity: str) -> Series:
    """By name and image, the values over the steps."""
    steps = max((int(row["step"]) for row in run.rows), default=0)
    held: Series = {}
    for row in run.rows:
        if row["quantity"] == quantity:
            images = held.setdefault(row["name"], {})
            values = images.setdefault(row["image"], np.full(steps + 1, np.nan))
            values[int(row["step"])] = row["value"]
    return held


def _images(series: Series) -> list[str]:
    return list(dict.fromkeys(image for images in series.values() for image in images))


def _class_charts(label: str, series: Series, named: bool) -> list[Chart]:
    charts = []
    for image in _images(series):
        own = {name: images[image] for name, images in series.items() if image in images}
        peak = {name: float(np.nanmax(values)) for name, values in own.items()}
        chosen = sorted(own, key=lambda name: -peak[name])[:TOP]
        lines = [_line(name, own[name], place) for place, name in enumerate(chosen)]
        charts.append(Chart(f"{label}: {image}" if named else image, lines))
    return charts


def _line(name: str, values: Numbers, place: int) -> Line:
    return Line(name, np.arange(len(values), dtype=np.float64), values, category(place), dashed=place >= 8)


def _answers(label: str, series: Series) -> Chart:
    """What became of the answers of step 0: how probable they are, and how many still are the best."""
    probability, kept = [], []
    for image in _images(series):
        names = [name for name, images in series.items() if image in images]
        values = held(np.stack([series[name][image] for name in names]))
        first = int(np.nan_to_num(values[:, 0], nan=-1).argmax())
        probability.append(values[first])
        kept.append((np.nan_to_num(values, nan=-1).argmax(axis=0) == first).astype(np.float64))
    lines = []
    for place, (name, rows) in enumerate({"mean probability": probability, "still the best": kept}.items()):
        mean, low, high = mean_interval(np.stack(rows))
        x = np.arange(len(mean), dtype=np.float64)
        lines.append(Line(name, x, mean, category(place), low, high))
    return Chart(f"{label}, {len(kept)} images", lines)


def _energies(label: str, series: Series) -> Chart:
    lines = []
    for place, (name, images) in enumerate(series.items()):
        mean, low, high = mean_interval(held(np.stack(list(images.values()))))
        if not (mean > 0).any():
            continue  # the feedforward errors of a run that stays where it starts
        x = np.arange(len(mean), dtype=np.float64)
        positive = np.where(mean > 0, mean, np.nan)
        lines.append(Line(name, x, positive, category(place), low, high, dashed=place >= 8))
    return Chart(label, lines)


def held(series: Numbers) -> Numbers:
    """Series (..., steps + 1) in which a run that stopped early keeps its last value."""
    filled = series.copy()
    for step in range(1, filled.shape[-1]):
        gap = np.isnan(filled[..., step])
        filled[..., step] = np.where(gap, filled[..., step - 1], filled[..., step])
    return filled


def mean_interval(rows: Numbers) -> tuple[Numbers, Numbers | None, Numbers | None]:
    """Mean over the rows (images), and its 95% bootstrap interval where there are enough of them."""
    mean: Numbers = rows.mean(axis=0)
    if len(rows) < FEWEST:
        return mean, None, None
    draw = np.random.default_rng(0).multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=DRAWS)
    low, high = np.percentile(draw @ rows / len(rows), (2.5, 97.5), axis=0)
    return mean, low, high


def _class_table(runs: Sequence[RunFolder], series: dict[str, Series]) -> Table:
    rows = []
    for run in runs:
        own = series[run.label]
        for image in _images(own):
            cells = [run.label] if len(runs) > 1 else []
            cells.append(image)
            for step in (0, -1):
                best = max(
                    (
                        (float(held(images[image])[step]), name)
                        for name, images in own.items()
                        if image in images
                    ),
                )
                cells.append(f"{best[1]} {best[0]:.3f}")
            rows.append(cells)
    head = ["run"] if len(runs) > 1 else []
    return Table("Best class", [*head, "image", "step 0", "last step"], rows)


def _energy_table(runs: Sequence[RunFolder], series: dict[str, Series]) -> Table:
    rows = []
    for run in runs:
        for name, images in series[run.label].items():
            mean = held(np.stack(list(images.values()))).mean(axis=0)
            cells = [run.label] if len(runs) > 1 else []
            rows.append([*cells, name, f"{mean[0]:.4g}", f"{mean.min():.4g}", f"{mean[-1]:.4g}"])
    head = ["run"] if len(runs) > 1 else []
    return Table("Energy, mean of the images", [*head, "edge", "step 0", "least", "last step"], rows)
