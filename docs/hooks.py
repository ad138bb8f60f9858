"""What mkdocs does while it builds the pages.

Pages hold a marker such as ``<!-- generated: spec -->`` where the text that is made from the code goes.
Formulas become MathML, which browsers draw without any script.
"""

import html
import re
import runpy
from pathlib import Path

from latex2mathml.converter import convert

MARKER = re.compile(r"<!-- generated: (\w+)(?: (\S+))? -->")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
CELL = re.compile(r"^# %%(?P<prose> \[markdown\])?$\n(?P<text>.*?)(?=^# %%|\Z)", re.DOTALL | re.MULTILINE)
TUTORIALS = Path(__file__).parent.parent / "tutorials"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Fill in the generated parts of a page."""

    def made(match: re.Match[str]) -> str:
        kind, name = match.groups()
        return GENERATED[kind](name)

    return MARKER.sub(made, markdown)


def on_page_content(content: str, **_: object) -> str:
    """Turn the formulas of a page into MathML."""
    return FORMULA.sub(lambda match: mathml(html.unescape(match[2]), block=match[1] == "div"), content)


def mathml(tex: str, block: bool) -> str:
    """A formula as MathML."""
    return convert(tex.strip(), display="block" if block else "inline")


def tutorial(name: str) -> str:
    """A tutorial script as a page: its prose cells as text, the others as code."""
    parts = []
    for cell in CELL.finditer((TUTORIALS / f"{name}.py").read_text(encoding="utf-8")):
        text = cell["text"].strip()
        prose = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
        parts.append(prose if cell["prose"] else f"```python\n{text}\n```")
    return "\n\n".join(parts)


def spec_reference(_: str) -> str:
    """The tables of every field of a spec, from the descriptions in the schema."""
    from pcgraph.spec import reference

    return reference()


def cli_reference(_: str) -> str:
    """The help texts of every command."""
    import typer
    from typer.cli import get_docs_for_click

    from pcgraph.cli import app

    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="pcgraph")
    text = get_docs_for_click(obj=command, ctx=context, name="pcgraph")
    return text[text.index("\n## ") :]  # the page has its own title and introduction


def cost_tables(spec: str) -> str:
    """What the published studies cost for one network, as benchmarks/cost.py calculates it."""
    namespace = runpy.run_path(str(TUTORIALS.parent / "benchmarks" / "cost.py"), run_name="cost")
    return "\n".join(sheet.markdown() for sheet in namespace["sheets"](spec))


GENERATED = {"tutorial": tutorial, "spec": spec_reference, "cli": cli_reference, "cost": cost_tables}
