"""The run folder of an evaluation: begun at once, filled as results come in, finished at the end."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcgraph.datasets import ImageData
from pcgraph.errors import Fault, InputError
from pcgraph.evaluation.store import Measured, Store
from pcgraph.evaluation.table import FILE as TABLE
from pcgraph.evaluation.table import Row, tabulate, write_table
from pcgraph.files import whole_file, write_text
from pcgraph.network import PCNetwork
from pcgraph.runs.folder import RECORD, new_run_folder, save_figure, versions
from pcgraph.spec import Spec, to_yaml
from pcgraph.spec.dump import pinned, rooted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = "evaluate"


def place(name: str, out: Path | None, *, resume: bool, force: bool) -> Path:
    """Where an evaluation goes; see `new_run_folder`. With ``resume``, ``out`` may hold one.

    Raises:
        InputError: It cannot go there; there is nothing to go on with.
    """
    if not resume:
        return new_run_folder(name, out, force)
    if out is None:
        raise InputError(
            Fault("--resume needs --out", hint="Give the folder of the evaluation to go on with.")
        )
    return out if (out / RECORD).is_file() else new_run_folder(name, out, force)


def begin(folder: Path, spec: Spec, record: Mapping[str, Any], *, resume: bool) -> None:
    """Make the run folder, or make sure that an evaluation that was begun in it may go on.

    Without ``resume`` an old run in the folder is removed.

    Args:
        folder: From `place`.
        spec: What is evaluated.
        record: What `run.json` holds besides versions and time; its ``settings`` must stay the same.
        resume: Whether to go on.

    Raises:
        InputError: The folder is of something else, or the evaluation in it had other settings.
    """
    if resume and (folder / RECORD).is_file():
        _check_same(folder, json.loads(json.dumps(record["settings"])))
        return
    if folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    write_text(folder / "spec.yaml", to_yaml(pinned(rooted(spec))))
    write_record(folder, spec, {**record, "finished": False})


def finish(
    folder: Path,
    spec: Spec,
    record: Mapping[str, Any],
    store: Store,
    measured: Measured,
    data: ImageData,
    draw: Callable[[str, Sequence[Row]], Mapping[str, Figure]] | None = None,
) -> tuple[list[Row], list[str]]:
    """Write the table, the figures and what every image did; the record, last, says that all is there.

    Args:
        folder: From `place`.
        spec: What was evaluated.
        record: What `run.json` holds besides versions and time.
        store: What every image did.
        measured: The results.
        data: The images.
        draw: Makes figures, by name, of a title and the rows; None draws nothing.

    Returns:
        The rows of the table, and the names of the figures.
    """
    rows = tabulate(data.name, [measured], len(data.classes or ()), record["seed"])
    with whole_file(folder / TABLE) as partial:
        write_table(rows, partial)
    figures = draw(spec.name, rows) if draw else {}
    for name, figure in figures.items():
        for suffix in (".png", ".svg"):
            with whole_file(folder / f"{name}{suffix}") as partial:
                save_figure(figure, partial)
    store.finish(measured)
    write_record(folder, spec, {**record, "conditions": list(measured), "finished": True})
    return rows, list(figures)


def write_record(folder: Path, spec: Spec, record: Mapping[str, Any]) -> None:
    """Write `run.json`."""
    full = {
        "kind": KIND,
        **record,
        "versions": versions(),
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "spec": spec.model_dump(mode="json", exclude={"extends"}),
    }
    write_text(folder / RECORD, json.dumps(full, indent=2, ensure_ascii=False) + "\n")


def fingerprint(network: PCNetwork) -> str:
    """A digest of all weights, so that results of other weights are not mixed with these."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _check_same(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make sure that an evaluation in a folder had the same settings."""
    path = folder / RECORD
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(Fault(f"cannot be read: {error}", where=str(path))) from None
    if not isinstance(before, dict) or before.get("kind") != KIND:
        raise InputError(Fault("is the folder of another kind of run", where=str(folder)))
    old = before["settings"]
    faults = [
        Fault(
            f"{name} was {old.get(name)!r}, now it is {value!r}",
            hint="Give the same settings, or another --out.",
            where=str(folder),
        )
        for name, value in settings.items()
        if old.get(name) != value
    ]
    if faults:
        raise InputError(faults)
