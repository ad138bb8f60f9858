"""What the commands that train have in common: the folder, the record, signals, progress and the table."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pcgraph.cli.commands import INTERRUPTED
from pcgraph.cli.report import page_beside
from pcgraph.cli.screen import Screen
from pcgraph.display.safe import one_line

if TYPE_CHECKING:
    from rich.table import Table

    from pcgraph.datasets import ImageData, Samples
    from pcgraph.runs.folder import RunFolder
    from pcgraph.spec import Fitting, Spec
    from pcgraph.training import Fitted, Task

    Data = ImageData | Samples


@contextmanager
def one_voice() -> Iterator[None]:
    """What is wrong is found by every process, and said by the main one."""
    from pcgraph.errors import PCGraphError
    from pcgraph.training.accelerator import is_main_process

    try:
        yield
    except PCGraphError:
        if is_main_process():
            raise
        raise typer.Exit(2) from None


@dataclass(frozen=True)
class Training:
    """One training from the command line.

    Attributes:
        kind: ``train`` or ``tune``.
        given: The spec as it was read.
        settings: Its section, with the options.
        out: The folder asked for.
        seed: Of everything.
        device: Where.
        workers: Processes that read ahead.
        trackers: As typed.
        resume: Whether to go on.
        force: Whether to replace another run.
        fast: Whether to compute in the fastest way.
    """

    kind: str
    given: Spec
    settings: Fitting
    out: Path | None
    seed: int
    device: str
    workers: int
    trackers: list[str] | None
    resume: bool
    force: bool
    fast: bool = False

    def run(self, screen: Screen, task: Task, data: Data, held: Data) -> list[dict[str, dict[str, float]]]:
        """Train, and say what came of it.

        Returns:
            The mean losses of each epoch, by part and name; see `epoch_means`.

        Raises:
            InputError: A folder that holds something else.
            typer.Exit: The training was asked to stop.
        """
        from pcgraph.training import epoch_means
        from pcgraph.training.accelerator import check_setup, is_main_process
        from pcgraph.training.engine import LOSSES

        main = is_main_process()
        trackers = [] if self.trackers == ["none"] else self.trackers
        check_setup(self.device, self.settings.precision, trackers)
        begun = time.perf_counter()
        if main:
            self._warn_of_order(task, data)
        with self._folder(main) as own:
            fitted = self._fit(own.work, screen, task, data, held, trackers)
            if not main:
                raise typer.Exit(0 if fitted.finished else INTERRUPTED)
            for path in fitted.passed_over:
                print(f"Damaged, so an older checkpoint was taken: {one_line(path)}", file=sys.stderr)
            epochs = epoch_means(own.work / LOSSES)
            found = {
                "finished": fitted.finished,
                "steps": fitted.step,
                "resumed_at": fitted.resumed,
                "seconds": round(time.perf_counter() - begun, 3),
                "skipped": len({fault.where for fault in (*data.skipped, *held.skipped)}),
            }
            self._record(own.work, data, held, **found)
            if fitted.finished:
                own.finish()
            page_beside(own.work, task.network)
            if not fitted.finished:
                print(
                    f"Stopped after a checkpoint. To go on:\n  {one_line(self._again(own.path))}",
                    file=sys.stderr,
                )
            screen.remark(loss_table(epochs))
            if found["skipped"]:
                screen.remark(f"{found['skipped']} broken files were left out.")
            screen.result(
                {**found, "folder": str(own.path), "epochs": epochs}, f"Run folder: {one_line(own.path)}"
            )
            if not fitted.finished:
                raise typer.Exit(INTERRUPTED)
            return epochs

    def _warn_of_order(self, task: Task, data: ImageData | Samples) -> None:
        """Say so if the labels, where they count, look permuted for the backbone's weights."""
        from pcgraph.datasets import ImageData
        from pcgraph.evaluation.permuted import permuted_data
        from pcgraph.spec import Train

        settings = self.settings
        counts = not isinstance(settings, Train) or (
            settings.task == "through_time" and settings.loss.classification > 0
        )
        found = permuted_data(task.network, data) if counts and isinstance(data, ImageData) else None
        if found is not None:
            print(f"Warning: {found}", file=sys.stderr)

    def _fit(
        self,
        folder: Path,
        screen: Screen,
        task: Task,
        data: ImageData | Samples,
        held: ImageData | Samples,
        trackers: Any,
    ) -> Fitted:
        """Train, with a progress bar, and with signals that ask for the end."""
        from pcgraph.datasets import batch_count
        from pcgraph.training import fit
        from pcgraph.training.accelerator import is_main_process

        total = self.settings.epochs * batch_count(
            data, self.settings.batch, drop_last=len(data) > self.settings.batch
        )
        done = 0
        with screen.working(f"Training {self.given.name}", total) as advance, stoppable() as stop:

            def on_begin() -> None:
                if is_main_process():
                    self._record(folder, data, held, finished=False)

            def on_step(progress: Any, losses: Mapping[str, float]) -> None:
                nonlocal done
                advance(progress.step - done)
                done = progress.step

            return fit(
                task,
                data,
                self.settings,
                folder,
                resume=self.resume,
                validation=held,
                seed=self.seed,
                device=self.device,
                workers=self.workers,
                trackers=trackers,
                on_begin=on_begin,
                on_step=on_step,
                on_epoch=lambda epoch, measured: screen.aside(_line(epoch, self.settings.epochs, measured)),
                stop=stop,
                progress=False,  # the screen has a bar already
                fast=self.fast,
                on_fastest=lambda found: screen.aside(f"Fastest: {found}"),
            )

    def _folder(self, main: bool) -> AbstractContextManager[RunFolder]:
        """The run folder, which the main process owns; to go on in, if there is something to go on with."""
        from pcgraph.errors import Fault, InputError
        from pcgraph.runs.folder import RunFolder, run_folder, work_of
        from pcgraph.training.engine import CHECKPOINTS

        if self.resume and self.out is None:
            raise InputError(Fault("--resume needs the folder", hint="Give it as --out DIR."))
        if not main:
            path = self.out or Path("runs") / self.given.name
            return nullcontext(RunFolder(path, work_of(path)))
        return run_folder(
            self.given.name,
            self.out,
            force=self.force,
            staged=False,
            resume=self.kind if self.resume else None,
            worth=(CHECKPOINTS,),
        )

    def _record(self, folder: Path, data: Data, held: Data, **found: Any) -> None:
        """Write ``run.json``."""
        from pcgraph.learning.saving import BACKBONE, PREDICTORS, SPEC
        from pcgraph.runs.record import FOLDERS, write_record
        from pcgraph.training.engine import CHECKPOINTS, LOGS, LOSSES

        record = {
            "kind": self.kind,
            "name": self.given.name,
            "command": shlex.join(["pcgraph", *sys.argv[1:]]),
            "seed": self.seed,
            "device": self.device,
            "data": data.name,
            "images": len(data),
            "held_out": len(held),
            **found,
            "settings": self.settings.model_dump(mode="json"),
            FOLDERS: [CHECKPOINTS, LOGS],
        }
        written = (LOSSES, SPEC, PREDICTORS, BACKBONE) if found["finished"] else ()
        write_record(folder, self.given, record, [name for name in written if (folder / name).is_file()])

    def _again(self, folder: Path) -> str:
        """The command that goes on."""
        words = [word for word in sys.argv[1:] if word not in ("--force", "--resume")]
        if self.out is None:
            words += ["--out", str(folder)]
        return shlex.join(["pcgraph", *words, "--resume"])


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM or ctrl-C has come; the second one ends the program at once."""
    asked: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _: Any) -> None:
        asked.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def loss_table(epochs: list[dict[str, dict[str, float]]]) -> Table:
    """What an epoch's losses were, and what was measured after it."""
    from rich.table import Table

    columns = list(
        dict.fromkeys((split, name) for epoch in epochs for split in epoch for name in epoch[split])
    )
    table = Table("epoch", *[name if split == "train" else f"{split}: {name}" for split, name in columns])
    for number, epoch in enumerate(epochs, 1):
        table.add_row(str(number), *[_number(epoch.get(split, {}).get(name)) for split, name in columns])
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _line(epoch: int, epochs: int, measured: Mapping[str, float]) -> str:
    shown = ", ".join(f"{name} {value:.4g}" for name, value in measured.items())
    return f"epoch {epoch + 1} of {epochs}{': ' if shown else ''}{shown}"
