"""Text from specs, file names and libraries, made safe for the place where it is shown.

A file name may hold any bytes, and a spec any text: neither steers a terminal, becomes a formula of a
spreadsheet or of matplotlib, or leaves a page that no browser or parser reads.
"""

from __future__ import annotations

import json
import re
from typing import Any

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, escape sequences among them; not tab and line break
    "\u2028\u2029\u202a-\u202e\u2066-\u2069"  # breaks, and changes of the direction of writing
    "\ud800-\udfff\ufffe\uffff]"  # halves of characters (bytes that are no UTF-8), and what is none
)
_FORMULA = re.compile(r"'*[=+\-@\t]")
_QUOTED = re.compile(r"'+[=+\-@\t]")


def printable(text: str) -> str:
    r"""The text with everything that is not to be seen written out: ``\x1b``, ``\u202e``.

    A byte of a file name that is no UTF-8 becomes ``\xff``. Tabs and line breaks stay. It is what a terminal,
    a page and a drawing get.
    """
    return _UNSEEN.sub(_escaped, text)


def one_line(text: object) -> str:
    r"""The printable text of a path, or of anything, on one line: a line break is ``\n``, a tab ``\t``.

    So a file name that holds a line break does not look like a line of ours.
    """
    return printable(str(text)).replace("\n", "\\n").replace("\t", "\\t")


def _escaped(found: re.Match[str]) -> str:
    code = ord(found.group())
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def figure_text(text: str) -> str:
    """The text as matplotlib draws it literally: a dollar sign begins no formula."""
    return printable(text).replace("$", r"\$")


def json_text(data: Any, encoding: str = "utf-8") -> str:
    """``data`` as indented JSON; what a stream cannot say, or a terminal obeys, is escaped as in JSON."""
    plain = encoding.lower().replace("-", "") == "utf8"
    text = json.dumps(data, indent=2, ensure_ascii=not plain, allow_nan=False)
    return _UNSEEN.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def csv_cell(text: str) -> str:
    """The text of a CSV cell, with an apostrophe before what a spreadsheet would take for a formula.

    Such are texts that begin with ``=``, ``+``, ``-``, ``@`` or a tab. An apostrophe that is there already,
    before one of them, gets another, so that `from_csv_cell` gives every printable text back; what is not to
    be seen is written out.
    """
    shown = printable(text)
    return f"'{shown}" if _FORMULA.match(shown) else shown


def from_csv_cell(cell: str) -> str:
    """The text of a cell that `csv_cell` wrote."""
    return cell[1:] if _QUOTED.match(cell) else cell
