"""Files to plain values: which file is meant, its text, and what its suffix says of it."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from pcgraph.errors import Fault, SpecError, closest
from pcgraph.files.kinds import instead_of_file
from pcgraph.files.shipped import shipped_spec, shipped_specs
from pcgraph.spec.json_source import parse_json
from pcgraph.spec.source import Document
from pcgraph.spec.toml_source import parse_toml
from pcgraph.spec.yaml_source import parse_yaml

PARSERS = {".yaml": parse_yaml, ".yml": parse_yaml, ".json": parse_json, ".toml": parse_toml}
"""File suffixes and what reads them."""
BYTES_LIMIT = 1_000_000


def spec_file(reference: str | Path) -> Path:
    """The file that is meant by a path, or by the name of a shipped spec; see `load_spec`.

    Raises:
        SpecError: A name that is neither shipped nor in the current folder.
    """
    path = Path(reference)
    if isinstance(reference, Path) or path.suffix or path.name != reference:
        return path
    if reference in shipped_specs():
        return shipped_spec(reference)
    if os.path.exists(path):
        return path  # which no spec file is called like; reading it says so
    if "\n" in reference:
        raise SpecError(Fault("text of several lines is no path", hint="Read YAML text with `parse_spec`."))
    near = _files_in(Path(), reference)
    hint = near if near.startswith("Did") else closest(reference, shipped_specs())
    raise SpecError(Fault(f"no such file, and no shipped spec is called '{reference}'", hint=hint))


def read_text(path: Path) -> str:
    """The text of a file that a user named.

    Raises:
        SpecError: It is missing (with the files that look like it), a folder, too large, or no text.
    """
    where = str(path)
    try:
        if other := instead_of_file(path):  # reading a pipe might never end
            hint = _files_in(path, path.name) if path.is_dir() else ""
            raise SpecError(Fault(f"{other}, expected a spec file", hint=hint, where=where))
        if not path.exists():
            if not path.parent.is_dir():
                raise SpecError(Fault(f"no such file: there is no folder '{path.parent}'", where=where))
            raise SpecError(Fault("no such file", hint=_files_in(path.parent, path.name), where=where))
        with path.open("rb") as file:
            content = file.read(BYTES_LIMIT + 1)
        if len(content) > BYTES_LIMIT:
            raise SpecError(Fault("larger than a megabyte; this is no spec", where=where))
    except OSError as error:
        raise SpecError(Fault(f"cannot be read: {error.strerror or error}", where=where)) from None
    except ValueError as error:  # a path with a null character
        raise SpecError(Fault(f"cannot be read: {error}")) from None
    if b"\0" in content:
        raise SpecError(Fault("a binary file, expected text", where=where))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        message = f"not UTF-8 text: the byte 0x{content[error.start]:02x}"
        fault = Fault(message, hint="Save the file as UTF-8.", where=f"{where}:{line}:{column}")
        raise SpecError(fault) from None


def _files_in(folder: Path, name: str) -> str:
    """A sentence that names the spec files most like ``name``; their suffixes count for nothing."""
    files = {file.stem: file.name for file in sorted(folder.iterdir()) if file.suffix in PARSERS}
    alike = get_close_matches(Path(name).stem, files, n=3, cutoff=0.6)
    return closest(name, [files[stem] for stem in alike] or files.values())


def read_document(path: Path) -> Document:
    """The plain values of a spec or study file, with their places.

    Raises:
        SpecError: It cannot be read, or has no suffix that says how.
    """
    parser = PARSERS.get(path.suffix.lower())
    if parser is None and not path.is_dir() and (path.exists() or path.suffix):
        message = f"unknown suffix '{path.suffix}'" if path.suffix else "no suffix"
        hint = "A spec file ends in .yaml, .yml, .json or .toml."
        raise SpecError(Fault(message, hint=hint, where=str(path)))
    text = read_text(path)
    return (parser or parse_yaml)(text, str(path))
