"""The page of runs: what is on it, that it needs nothing else, and what it makes of damaged folders."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file
from safetensors.torch import save_file as torch_save

import pcgraph as pcg
from pcgraph.report.page import report_page
from pcgraph.report.page.charts import Axis, Line, category, draw, limits
from pcgraph.report.page.simulation import mean_interval
from pcgraph.report.page.training import MOST, thinned

from .folders import evaluated, queried, simulated, trained

NASTY = '<script>alert("1")</script> & $\\frac{ \x1b "quoted\'.png'
LOADS = {"src", "href", "action", "data", "poster", "srcset", "background"}
"""Attributes that make a browser fetch something."""


class Page(HTMLParser):
    """What is on a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name.split(":")[-1] in LOADS:
                self.loads.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)


@pytest.fixture
def every(tmp_path: Path) -> list[Path]:
    """A run of every kind; the images of one have a nasty name."""
    run = simulated(tmp_path / "seen", [NASTY, *(f"image {number}" for number in range(6))])
    generator = np.random.default_rng(0)
    shapes = {"values:image": (3, 8, 8), "predictions:hidden->image": (3, 8, 8)}
    save_file(
        {name: generator.normal(size=(4, 7, *shape)).astype(np.float16) for name, shape in shapes.items()},
        run / "tensors.safetensors",
    )
    return [run, evaluated(tmp_path / "tested"), trained(tmp_path / "learned"), queried(tmp_path / "asked")]


def test_everything_is_on_the_page_and_nothing_comes_from_elsewhere(every: list[Path]) -> None:
    text = report_page(every)
    page = Page(text)
    assert page.tags.count("script") == 0
    # pictures are inside, references lead to the page itself, and the style sheet fetches nothing
    assert all(load.startswith(("data:", "#")) for load in page.loads), page.loads
    assert "@import" not in text
    assert re.findall(r"url\((?!#)[^)]*\)", text) == []
    for heading in ("Runs", "Simulation", "Evaluation", "Query", "Training", "Wiring"):
        assert heading in page.texts
    for word in ("hidden->image", "gaussian", "accuracy", "distance", "validation", "mean probability"):
        assert word in page.text
    inside = {load[1:] for load in page.loads if load.startswith("#")}
    assert inside <= set(page.ids)
    assert page.tags.count("img") == 3 * 4 + 1  # state, prediction, difference of four images; the answers
    assert len(text) < 1_000_000


def test_predictions_in_bfloat16_are_shown(every: list[Path]) -> None:
    """A run with ``--dtype bfloat16`` predicts in it, and numpy does not know it."""
    file = every[0] / "tensors.safetensors"
    tensors = load_file(file)
    pictures = []
    for dtype in (torch.bfloat16, torch.float32):
        torch_save({name: tensor.to(dtype) for name, tensor in tensors.items()}, file)
        pictures.append(re.findall(r"data:image/png[^\"]*", report_page(every[:1])))
        tensors = load_file(file)
    assert len(pictures[0]) == 12
    assert pictures[0] == pictures[1]


def test_names_are_text_and_not_markup(every: list[Path]) -> None:
    text = report_page(every)
    assert "<script" not in text
    assert "alert(" in text  # it is there, as text
    page = Page(text)
    assert any('<script>alert("1")</script> & $\\frac{' in shown for shown in page.texts)


def test_numbers_on_the_page_are_those_of_the_table(every: list[Path]) -> None:
    page = Page(report_page(every[1:2]))
    # gaussian 1: 0.5 at step 0, 0.7 at step 2
    for shown in ("0.5 [0.45, 0.55]", "0.7 [0.65, 0.75]", "0.7 [0.65, 0.75] at 2", "+0.2"):
        assert shown in page.texts
    page = Page(report_page(every[2:3]))
    assert {"2", "0.006667", "300"} <= set(page.texts)  # first and last loss, and the steps


def test_the_wiring_is_drawn_with_its_texts(every: list[Path]) -> None:
    text = report_page(every[:1])
    drawing = text[text.index('aria-label="Wiring of pair"') :]
    shown = Page(drawing).texts
    assert {"image", "hidden", "feedforward", "feedback"} <= {one.strip() for one in shown}


def test_runs_side_by_side_share_their_axes_and_tell_what_differs(tmp_path: Path) -> None:
    one = evaluated(tmp_path / "one", gain=0.1, spec={"dynamics": {"error": 0.01}})
    two = evaluated(tmp_path / "two", gain=0.2, spec={"dynamics": {"error": 0.05}})
    text = report_page([one, two])
    page = Page(text)
    assert "spec.dynamics.error" in page.texts
    assert "Settings that differ" in page.texts
    assert {"0.01", "0.05", "one", "two"} <= set(page.texts)
    figure = r'<svg[^>]*aria-label="accuracy, gaussian: {}".*?</svg>'
    drawn = [re.search(figure.format(name), text, re.DOTALL) for name in ("one", "two")]
    assert all(drawn)
    ticks = [re.findall(r"text-anchor: end[^>]*>([^<]*)<", found[0]) for found in drawn if found]
    assert ticks[0] == ticks[1] != []


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [evaluated(tmp_path / folder / "run") for folder in ("a", "b")]
    assert {"a/run", "b/run"} <= set(Page(report_page(runs)).texts)
    with pytest.raises(pcg.InputError, match="given twice"):
        report_page([runs[0], runs[0]])


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    (run / "spec.yaml").write_text(
        "name: n\nbackbone: {model: 'python:no.such:Net', input: [3, 8, 8]}\nnodes: {a: b}\n"
    )
    assert "no wiring is drawn" in Page(report_page([run])).text
    (run / "spec.yaml").unlink()
    assert "holds no spec.yaml" in Page(report_page([run])).text


@pytest.mark.parametrize(
    ("file", "text", "where", "message"),
    [
        ("run.json", '{"kind": "evaluate",\n oops}', "run.json:2:2", "not valid JSON"),
        ("run.json", "[1]", "run.json", "expected a mapping, got list"),
        ("run.json", '{"kind": 3}', "run.json", "kind: expected a word"),
        ("evaluation.csv", "data,noise\na,b\n", "evaluation.csv:1", "level, step, metric, name, value"),
        ("evaluation.csv", None, "evaluation.csv", "no such file"),
        ("evaluation.csv", b"\xff\xfe", "evaluation.csv", "not UTF-8"),
        (
            "evaluation.csv",
            "+x,clean,0,0,accuracy,,0.5,0.4,0.6",
            "evaluation.csv:11",
            "expected 10 fields, got 9",
        ),
        (
            "evaluation.csv",
            "+x,clean,0,0,accuracy,,much,0,1,5",
            "evaluation.csv:11",
            "value: expected a number, got 'much'",
        ),
        (
            "evaluation.csv",
            "+x,clean,0,0.5,accuracy,,1,0,1,5",
            "evaluation.csv:11",
            "step: expected a whole number",
        ),
        ("evaluation.csv", '+x,"clean', "evaluation.csv:11", "is no CSV file"),
    ],
)
def test_damaged_folders(
    tmp_path: Path, file: str, text: str | bytes | None, where: str, message: str
) -> None:
    run = evaluated(tmp_path / "run")
    path = run / file
    if text is None:
        path.unlink()
    elif isinstance(text, bytes):
        path.write_bytes(text)
    elif text.startswith("+"):
        lines = path.read_text().splitlines()[:10]  # nine rows stay, and the damage is line 11
        path.write_text("\n".join([*lines, text[1:]]))
    else:
        path.write_text(text)
    with pytest.raises(pcg.InputError) as caught:
        report_page([run])
    (fault,) = caught.value.faults
    assert fault.where == str(run / where)
    assert message in fault.message


def test_damaged_tensors_and_missing_folders(tmp_path: Path) -> None:
    run = simulated(tmp_path / "run", ["a"])
    (run / "tensors.safetensors").write_bytes(b"nothing")
    with pytest.raises(pcg.InputError, match="cannot be read"):
        report_page([run])
    with pytest.raises(pcg.InputError, match="no such folder"):
        report_page([tmp_path / "nowhere"])
    with pytest.raises(pcg.InputError, match="is a file"):
        report_page([run / "run.json"])
    with pytest.raises(pcg.InputError, match="no run folder"):
        report_page([tmp_path])


def test_a_training_that_has_just_begun(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    (run / "losses.csv").write_text("epoch,step,split,name,value\n")
    assert "no step was logged yet" in Page(report_page([run])).text


# ---- the parts -----------------------------------------------------------------------------------


def test_a_long_curve_keeps_its_mean() -> None:
    x = np.arange(1, 1001, dtype=float)
    short, values = thinned(x, 3 * x)
    assert len(short) == MOST
    np.testing.assert_allclose(values, 3 * short)
    assert short.mean() == pytest.approx(x.mean())
    assert thinned(x[:5], x[:5])[0].tolist() == x[:5].tolist()


def test_intervals_of_a_mean() -> None:
    rows = np.random.default_rng(1).normal(5, 2, size=(400, 1))
    mean, low, high = mean_interval(rows)
    assert low is not None
    assert high is not None
    # the normal interval of a mean of 400 numbers, of which the bootstrap is an estimate
    half = 1.96 * rows.std() / 20
    np.testing.assert_allclose([low[0], high[0]], [mean[0] - half, mean[0] + half], atol=0.04)
    assert mean_interval(rows[:3])[1:] == (None, None)


def test_charts_say_their_values_where_the_mouse_rests() -> None:
    line = Line("a <b> $x", np.arange(3.0), np.array([0.25, np.nan, 0.5]), category(0))
    text = draw("chart", [line], Axis(), limits([line], Axis()))
    assert re.findall(r"<title>(.*?)</title>", text, re.DOTALL) == [
        "a &lt;b&gt; $x\nstep 0: 0.25",
        "a &lt;b&gt; $x\nstep 2: 0.5",
    ]
    assert "var(--c0)" in text


def test_the_same_runs_give_the_same_page(every: list[Path]) -> None:
    assert report_page(every) == report_page(every)


# ---- in a browser --------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def browse(page: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    flags = "--headless=new --no-sandbox --disable-gpu --disable-background-networking --disable-sync"
    flags += " --disable-component-update --hide-scrollbars --enable-logging=stderr --v=0"
    command = [
        str(CHROMIUM),
        *flags.split(),
        f"--user-data-dir={folder / 'profile'}",
        *options,
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_in_chromium(every: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(report_page(every), encoding="utf-8")
    # A page of ours has no script; one is put in that asks the browser what it made of the page.
    probe = """<script>
      const wide = document.documentElement.scrollWidth - innerWidth;
      const charts = [...document.querySelectorAll('figure > svg')].filter(one => {
        const box = one.getBoundingClientRect(); return box.width > 200 && box.height > 100; });
      const broken = [...document.images].filter(image => !image.naturalWidth);
      const unknown = [...document.querySelectorAll('svg *')].filter(one =>
        one.style.stroke.includes('var(') && getComputedStyle(one).stroke === 'none');
      const facts = [wide, charts.length, broken.length, unknown.length,
        performance.getEntriesByType('resource').filter(one => !one.name.startsWith('data:')).length];
      document.title = JSON.stringify(facts);
    </script>"""
    probed = tmp_path / "probed.html"
    for width in (1280, 400):
        probed.write_text(
            page.read_text(encoding="utf-8").replace("</body>", probe + "</body>"), encoding="utf-8"
        )
        found = browse(probed, tmp_path, "--dump-dom", f"--window-size={width},900")
        assert "CONSOLE" not in found.stderr, found.stderr
        title = re.search(r"<title>(.*?)</title>", found.stdout)
        assert title
        wide, charts, broken, unknown, fetched = json.loads(title[1])
        assert wide <= 0, f"the page is {wide} pixels wider than the window"
        assert charts == len(re.findall(r"<svg[^>]*role=\"img\"", page.read_text(encoding="utf-8")))
        assert charts >= 8
        assert (broken, unknown, fetched) == (0, 0, 0)
