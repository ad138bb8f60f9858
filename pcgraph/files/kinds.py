"""What stands at a path where a file was expected."""

from __future__ import annotations

from pathlib import Path


def instead_of_file(path: Path) -> str:
    """What is there instead of a file, in words; empty where it is a file, or nothing."""
    if path.is_file():
        return ""
    if path.is_dir():
        return "a folder"
    if path.exists():
        return "a pipe, socket or device"
    return "a link to nothing, or to itself" if path.is_symlink() else ""
