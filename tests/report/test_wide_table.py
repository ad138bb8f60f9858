"""Tables of the terminal: no heading and no number is cut, at any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pcgraph.report.wide_table import WideTable

HEAD = ["arm", "clean", "gaussian 0.5", "gaussian 1", "salt_pepper 0.2", "low_frequency 0.5", "less chain"]
HEAD += ["interval", "p", "edges", "parameters", "multiply-adds", "of a run", "updates", "spectral radius"]
ARMS = ["none", "slow[delay=1,dynamics.feedback=0.25]", "dense without e1->input", "a b c d e f g h"]
LINES = [[arm, *(f"{place}{column:04d}" for column in range(1, len(HEAD)))] for place, arm in enumerate(ARMS)]


def shown(table: WideTable, width: int) -> list[str]:
    """What the terminal shows."""
    console = Console(width=width, file=io.StringIO())
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160, 400])
def test_headings_and_numbers_are_whole(width: int) -> None:
    lines = shown(WideTable("title", HEAD, LINES, "caption", groups=(6, 9)), width)
    text = "\n".join(lines)
    assert "…" not in text
    assert max(map(len, lines)) <= width
    words = text.replace("┃", " ").replace("│", " ").split()
    for name in HEAD:
        assert set(name.split()) <= set(words)
    for line in LINES:
        assert set(line[1:]) <= set(words)
    assert words.count("arm") == text.count("┏")  # each part begins with the first column
    assert (text.count("┏") == 1) == (width == 400)
    assert text.count("caption") == 1


def test_a_group_stays_together_where_there_is_room() -> None:
    lines = shown(WideTable("title", HEAD, LINES, groups=(6, 9)), 100)
    heads = [
        "\n".join(part.split("┡")[0] for part in whole.split("\n")) for whole in "\n".join(lines).split("┏")
    ]
    (own,) = [one for one in heads[1:] if "interval" in one.split("┡")[0]]
    head = own.split("┡")[0]
    assert "less" in head
    assert " p " in head
    assert "parameters" not in head


def test_a_name_is_folded_and_words_wrap() -> None:
    edges = ", ".join(f"e{place}->input (delay 1)" for place in range(9))
    table = WideTable("title", ["trial", "accuracy", "feedback edges"], [["3", "63.0%", edges]], words=(0, 2))
    text = " ".join(shown(table, 50))
    for place in range(9):
        assert f"e{place}->input" in text
    long = "x" * 70
    (head, *_) = [line for line in shown(WideTable("", ["arm", "p"], [[long, "1.000"]]), 40) if "x" in line]
    assert len(head) <= 40
    assert "".join(shown(WideTable("", ["arm", "p"], [[long, "1.000"]]), 40)).count("x") == 70


def test_no_room_at_all_is_no_error() -> None:
    assert shown(WideTable("title", HEAD, LINES), 12)
    assert shown(WideTable("title", HEAD, []), 80)
