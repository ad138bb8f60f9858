"""What mkdocs does as it builds the pages: formulas become MathML, which browsers draw without any script."""

import html
import re

from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: object) -> str:
    """Turn the formulas of a page into MathML."""
    return FORMULA.sub(lambda match: mathml(html.unescape(match[2]), block=match[1] == "div"), content)


def mathml(tex: str, block: bool) -> str:
    """A formula as MathML."""
    return convert(tex.strip(), display="block" if block else "inline")
