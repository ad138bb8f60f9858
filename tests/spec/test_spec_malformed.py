"""Malformed specs are refused with the line, the field and the suggestion that a user should see."""

import re
from pathlib import Path

import pytest
from spec_malformed import CASES, Case

from pcgraph.errors import SpecError
from pcgraph.spec import load_spec


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_message(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(case.file).write_text(case.text, encoding="utf-8", newline="")
    with pytest.raises(SpecError) as caught:
        load_spec(case.file)
    assert str(caught.value) == case.expected


def test_there_are_many() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.suffix == ".yaml"], ids=lambda case: case.name
)
def test_windows_line_ends_and_byte_order_mark(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(case.file).write_bytes(b"\xef\xbb\xbf" + case.text.replace("\n", "\r\n").encode())
    with pytest.raises(SpecError) as caught:
        load_spec(case.file)
    assert str(caught.value) == case.expected


def test_every_place_is_in_the_file() -> None:
    """The expectations themselves: no place lies outside of the text."""
    for case in CASES:
        lines = case.text.splitlines() or [""]
        for line, column in re.findall(rf"^{re.escape(case.file)}:(\d+):(\d+)", case.expected, flags=re.M):
            assert 1 <= int(line) <= len(lines), case.name
            assert 1 <= int(column) <= len(lines[int(line) - 1]) + 1, case.name
