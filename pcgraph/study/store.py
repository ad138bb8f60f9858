"""Where the results of cells are kept: a folder each, whole or not at all, and known again."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pcgraph.errors import InputError
from pcgraph.files import whole_folder
from pcgraph.files.moving import remove
from pcgraph.files.seals import SEAL, check_file, check_record, damaged, seal, to_json
from pcgraph.study.cells import Cell, key_of
from pcgraph.study.work import Files

RECORD = "cell.json"


class CellStore:
    """The cells of a study's folder.

    Args:
        folder: Of the cells; made when the first comes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def done(self, cells: list[Cell]) -> set[str]:
        """The keys of those that are there and as they were written."""
        return {cell.key for cell in cells if self._whole(cell.key)}

    def read(self, key: str) -> Files:
        """The files of a cell.

        Raises:
            InputError: They are not there, or damaged.
        """
        path = self.folder / key
        record = check_record(path / RECORD)
        if SEAL not in record or key_of(record["kind"], record["content"], record["needs"]) != key:
            raise damaged(path / RECORD)
        for name in record["files"]:
            check_file(path / name, RECORD)
        return {name: (path / name).read_bytes() for name in record["files"]}

    def write(self, cell: Cell, files: Files) -> None:
        """Keep what a cell left; nothing, where it is kept already. What is damaged is replaced."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / cell.key
        if self._whole(cell.key):
            return
        if os.path.lexists(path):
            remove(path)
        with whole_folder(path) as partial:
            for name, content in files.items():
                (partial / name).write_bytes(content)
            about = {"kind": cell.kind, "content": json.loads(json.dumps(dict(cell.content)))}
            record = {**about, "needs": cell.origins}
            (partial / RECORD).write_text(to_json(seal(record, partial, list(files))), encoding="utf-8")

    def _whole(self, key: str) -> bool:
        path = self.folder / key
        if not os.path.lexists(path):
            return False
        try:
            self.read(key)
        except (InputError, FileNotFoundError, NotADirectoryError, KeyError, TypeError, AttributeError):
            return False
        return True
