"""Names that try to be something else: escape sequences, formulas, markup, and bytes that are no text."""

from __future__ import annotations

import csv
import html
import json
import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from pcgraph.display.safe import csv_cell, figure_text, from_csv_cell, json_text, one_line, printable
from pcgraph.evaluation.table import Row, read_table, write_table
from pcgraph.report.page import report_page
from tests.cli.conftest import Cli, cli, small  # noqa: F401
from tests.report.folders import simulated

STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What no terminal may be sent."""
ATTACKS = ["\x1b[2J\x1b[31mowned", "\x9b31mred", "\x1b]0;title\x07", "a\rb", "\u202egnp.exe", "x\x7f\x08y"]


@pytest.mark.parametrize("text", ATTACKS)
def test_nothing_steers_a_terminal(text: str) -> None:
    assert not STEERS.search(printable(text))


def test_what_is_readable_stays() -> None:
    text = "é漢字 😀 مرحبا\tword\n$x$ <b> &amp; \\x1b"
    assert printable(text) == text


def test_a_byte_that_is_no_utf8_says_which() -> None:
    assert printable(os.fsdecode(b"a\xff\x80.png")) == r"a\xff\x80.png"
    assert printable("\ud83d") == r"\ud83d"


@given(st.text())
def test_a_formula_is_text_and_comes_back(text: str) -> None:
    cell = csv_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert from_csv_cell(cell) == printable(text)


@pytest.mark.parametrize(
    "name", ["=1+1", "+cmd|' /C calc'!A0", "@SUM(A1)", "-2+3", "'=1", "''=1", "'s", "\t=1"]
)
def test_names_of_data_in_a_table(name: str, tmp_path: Path) -> None:
    rows = [Row(name, "clean", 0.0, 0, "accuracy", "", -0.5, -1.0, 0.0, 3)]
    write_table(rows, tmp_path / "t.csv")
    assert read_table(tmp_path / "t.csv") == rows
    with (tmp_path / "t.csv").open(newline="") as file:
        (raw,) = csv.DictReader(file)
    assert raw["data"][0] not in "=+-@\t"
    assert raw["value"] == "-0.5"  # a number is no formula


@pytest.mark.parametrize("text", ["US$_and_$", "$\\frac{", "a$b", "a\\$b$", "$$", "x $\\notacommand$ y"])
def test_a_dollar_is_drawn_as_one(text: str, tmp_path: Path) -> None:
    figure = Figure()
    figure.text(0, 0.5, figure_text(text))
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(tmp_path / "f.svg")
    drawn = [element.text for element in ET.parse(tmp_path / "f.svg").iter() if element.tag.endswith("text")]
    assert drawn == [text]


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "ascii", "latin-1", "utf-16"])
def test_json_is_json_in_every_encoding(encoding: str) -> None:
    data = {"name": "é漢\x1b[31m\x9b\u202e😀" + os.fsdecode(b"\xff")}
    text = json_text(data, encoding)
    assert not STEERS.search(text)
    assert json.loads(text.encode(encoding).decode(encoding)) == data


ODD = [
    "=1+1.png",
    "\x1b[31mred.png",
    "US$_$.png",
    "<b>&.png",
    os.fsdecode(b"\xff.png"),
    "\u202egnp.png",
]


@pytest.fixture
def odd_pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ODD:
        with (folder / name).open("wb") as file:
            Image.new("RGB", (16, 16), "red").save(file, "png")
    return folder


@pytest.mark.heavy
def test_a_run_on_odd_names(cli: Cli, small: Path, odd_pictures: Path, tmp_path: Path) -> None:  # noqa: F811
    os.chdir(odd_pictures)
    spec = small.read_text().replace("name: small", "name: 'a$_$b'")
    small.write_text(spec)
    for name in ODD:
        outcome = cli("run", small, name, "--trust", "--steps", 1, "--force", "--out", "../out")
        assert outcome.status == 0, outcome.err
        assert not STEERS.search(outcome.out + outcome.err)
        with (tmp_path / "out" / "metrics.csv").open(newline="", encoding="utf-8") as file:
            names = {row["image"] for row in csv.DictReader(file)}
        assert not any(cell[0] in "=+-@" or STEERS.search(cell) for cell in names)
        assert {from_csv_cell(cell) for cell in names} == {printable(name)}
        ET.parse(tmp_path / "out" / "figure.svg")
        assert json.loads((tmp_path / "out" / "run.json").read_text())["images"][0]["name"] == name


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["US$_$", "$$ {x}$", "a$b"])
def test_dollars_in_the_figures_of_every_command(cli: Cli, small: Path, tmp_path: Path, name: str) -> None:  # noqa: F811
    """Of a spec's name in a wiring, and of an image's in a query."""
    small.write_text(small.read_text().replace("name: small", f"name: '{name}'"))
    Image.new("RGB", (16, 16), "red").save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / f"{name}.png")
    for words in (
        ("show", small, "--trust", "-o", "wiring.svg"),
        ("query", small, "--trust", "--clamp", f"input={name}.png", "--free", "e1", "--out", "q"),
    ):
        outcome = cli(*words)
        assert outcome.status == 0, outcome.err
    drawn = [*tmp_path.rglob("*.svg")]
    assert len(drawn) > 1
    for file in drawn:
        ET.parse(file)


@pytest.mark.parametrize("name", ATTACKS[:3])
def test_faults_do_not_steer(cli: Cli, name: str, tmp_path: Path) -> None:  # noqa: F811
    missing = cli("check", f"{name}.yaml")
    assert missing.status == 2
    assert not STEERS.search(missing.err)
    (tmp_path / "spec.yaml").write_text(json.dumps({"name": "n", name: 1}))
    unknown = cli("check", "spec.yaml")
    assert unknown.status == 2
    assert printable(name) in unknown.err
    assert not STEERS.search(unknown.out + unknown.err)


@pytest.mark.parametrize("command", ["check", "run", "show"])
@pytest.mark.parametrize("name", ["\x1b[31mred", "a\x07\x1b]0;title\x07b", "\x9b2J", "c\u202ed"])
def test_a_spec_with_a_name_that_steers(cli: Cli, small: Path, command: str, name: str) -> None:  # noqa: F811
    small.write_text(json.dumps({**yaml.safe_load(small.read_text()), "name": name}))
    words = ("random", "--steps", 1) if command == "run" else ()
    outcome = cli(command, small, *words, "--trust")
    assert outcome.out + outcome.err
    assert not STEERS.search(outcome.out + outcome.err)


def test_a_page_of_odd_names(tmp_path: Path) -> None:
    names = ["\x1b[31mred.png", os.fsdecode(b"\xff.png"), "<script>$x$.png"]
    page = report_page([simulated(tmp_path / "r", [printable(name) for name in names], name="\ud800\x1b $&")])
    page.encode("utf-8")
    assert not STEERS.search(page)
    assert html.escape("<script>$x$.png") in page


FORGED = ["a\nERROR: all is lost.png", "b\tc.png", "\n.png", "d\r\n.png", "e\u2028f.png"]
"""Names that pretend to be more than one line, or a column."""


@pytest.mark.heavy
@pytest.mark.parametrize("name", FORGED)
def test_a_name_is_one_line_in_a_terminal(cli: Cli, small: Path, tmp_path: Path, name: str) -> None:  # noqa: F811
    assert one_line(name).isprintable()
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "pictures" / "x.png")
    (tmp_path / "pictures" / "x.png").rename(tmp_path / "pictures" / name)
    done = cli("run", small, "pictures", "--trust", "--out", f"r{name}")
    assert done.status == 0
    assert one_line(f"pictures/{name}: classes") in done.out
    assert done.out.endswith(f"Run folder: {one_line(f'r{name}')}\n")
    (tmp_path / "pictures" / name).write_text("no picture")
    done = cli("run", small, "pictures", "--trust", "--out", "s")
    assert done.err == f"{one_line(f'pictures/{name}')}: no image file that can be read\n"
    for words in (("check", name), ("run", small, name, "--trust"), ("report", name)):
        assert done.status == 2
        assert cli(*words).err.startswith(one_line(name))
