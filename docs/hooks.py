"""What mkdocs does while it builds the pages.

Reference pages hold a marker such as ``<!-- generated: spec -->`` where the text that is made from the
code goes. Formulas become MathML, which browsers draw without any script.
"""

import html
import re

from latex2mathml.converter import convert

MARKER = re.compile(r"<!-- generated: (\w+) -->")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Fill in the generated parts of a page."""
    return MARKER.sub(lambda match: GENERATED[match[1]](), markdown)


def on_page_content(content: str, **_: object) -> str:
    """Turn the formulas of a page into MathML."""
    return FORMULA.sub(lambda match: mathml(html.unescape(match[2]), block=match[1] == "div"), content)


def mathml(tex: str, block: bool) -> str:
    """A formula as MathML."""
    return convert(tex.strip(), display="block" if block else "inline")


def spec_reference() -> str:
    """The tables of every field of a spec, from the descriptions in the schema."""
    from pcgraph.spec import reference

    return reference()


def cli_reference() -> str:
    """The help texts of every command."""
    import typer
    from pcgraph.cli import app
    from typer.cli import get_docs_for_click

    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="pcgraph")
    return get_docs_for_click(obj=command, ctx=context, name="pcgraph")


GENERATED = {"spec": spec_reference, "cli": cli_reference}
