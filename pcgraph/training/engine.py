"""The engine: data in a fixed order, losses to gradients to weights, checkpoints, and all of it resumable.

Nothing is kept between two batches but the weights, the optimizer's state and three counters. Random
numbers within a batch are drawn from a generator that is seeded by (seed, batch, process), so that a
training that was killed ends with the same weights as one that was not. What all parts of a batch must
draw alike is drawn from the batch's own seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcgraph.acceleration import Measured
from pcgraph.datasets import (
    Batch,
    ImageData,
    Images,
    Loaded,
    Samples,
    batch_count,
    batches,
    data_digest,
    given_images,
)
from pcgraph.datasets.noise import mixed_seed
from pcgraph.display.progress import progress_bar
from pcgraph.errors import Fault, InputError
from pcgraph.files.free_space import check_room
from pcgraph.spec.training import Fitting
from pcgraph.training.accelerator import is_main_process, process_count, start_accelerator
from pcgraph.training.batch_step import BatchStep, check_finite, check_weights
from pcgraph.training.checkpoints import Progress, load_checkpoint, moving_tensors, save_checkpoint
from pcgraph.training.fastest import Fastest
from pcgraph.training.identity import identity
from pcgraph.training.losses import TRAIN, VALIDATION, LossTable
from pcgraph.training.measuring import measured
from pcgraph.training.settings import settings_for, with_augmentation
from pcgraph.training.task import Finishing, Task
from pcgraph.training.threads import fitting_threads

LOSSES, CHECKPOINTS, LOGS = "losses.csv", "checkpoints", "logs"
FASTEST = "fastest"
"""The way of computing, among the settings of a checkpoint."""
FREE = ("checkpoint", "keep")
"""Settings that may differ when a training goes on."""

DIGESTS = {"data_digest", "held_out_digest", "weights"}
"""Settings that follow from others, and are named if nothing else differs."""


@dataclass(frozen=True)
class Fitted:
    """How a training ended.

    Attributes:
        finished: False if it was asked to stop; its last checkpoint is where it goes on.
        step: Batches done since it began.
        resumed: Batches that were done before this call.
        passed_over: Checkpoints that were damaged, so that an older one was taken.
    """

    finished: bool
    step: int
    resumed: int
    passed_over: list[Path] = field(default_factory=list)


def fit(
    task: Task,
    data: Images,
    settings: Fitting,
    folder: str | Path,
    *,
    resume: bool = False,
    validation: Images | None = None,
    seed: int = 0,
    device: str = "auto",
    workers: int = 0,
    trackers: list[str] | None = None,
    on_begin: Callable[[], None] | None = None,
    on_step: Callable[[Progress, Mapping[str, float]], None] | None = None,
    on_epoch: Callable[[int, Mapping[str, float]], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: bool = True,
    fast: bool = False,
    on_fastest: Callable[[Measured], None] | None = None,
) -> Fitted:
    """Train.

    Args:
        task: What learns, and from what.
        data: The training images: what `open_data` gives; a data set of torch or tensors, ``images`` or
            ``(images, labels)``, as the network takes them; or a loader, whose batches are taken as they
            come (its batch size then stands for ``settings.batch``).
        settings: Optimizer, epochs, batch and so on: the spec's section.
        folder: Where ``losses.csv``, ``checkpoints/``, the trackers' ``logs/`` and in the end what the task
            saves go. Nothing may be in it, unless the training goes on.
        resume: Go on from the last checkpoint in ``folder``; without one, begin.
        validation: Images to measure after every epoch, of any kind that ``data`` can be.
        seed: Of the order of the images, their augmentation, and what the task draws.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        workers: Processes that read images ahead.
        trackers: Names of accelerate's trackers; None: TensorBoard where it is installed.
        on_begin: Called once all is checked, before anything is written.
        on_step: Called after every batch with the progress and its losses.
        on_epoch: Called after every epoch with its number and what was measured.
        stop: Asked after every batch; once it is true in any process, all write a checkpoint and stop.
        progress: Whether to show a bar, where standard error is a terminal (`PCGRAPH_PROGRESS=0` in the
            environment forbids it).
        fast: Whether to measure, at the first batch, which way of computing is the fastest on this machine,
            and to take it; one process alone can. Results differ from others by rounding. A training that
            goes on keeps its way.
        on_fastest: Called with what was measured.

    Raises:
        InputError: Something that does not fit; a folder that holds something; a package that is not
            installed; or checkpoints of another training; or a loss is not finite.
        DivergenceError: A state is not finite.
    """
    folder = Path(folder)
    if fast and process_count() > 1:
        raise InputError("the fastest way is looked for by one process, and there are several")
    if is_main_process() and not resume:
        _check_empty(folder)
    with torch.random.fork_rng():
        training = _Fit(task, data, settings, folder, validation, seed, device, workers, trackers)
        with training.bar(progress) as advance:

            def step(progress: Progress, losses: Mapping[str, float]) -> None:
                advance(progress.step)
                (on_step or _nothing)(progress, losses)

            if fast:
                training.hasten(on_fastest or _nothing)
            return training.run(resume, on_begin or _nothing, step, on_epoch or _nothing, stop)


def _check_empty(folder: Path) -> None:
    """Make sure that no file is written over."""
    if folder.exists() and not folder.is_dir():
        raise InputError(Fault("is a file, expected a folder for the training", where=str(folder)))
    if folder.is_dir() and any(folder.iterdir()):
        hint = "Choose another folder, or go on with the training in it: resume=True."
        raise InputError(Fault("exists already and is not empty", hint=hint, where=str(folder)))


class _Fit:
    """One training: what stays the same from batch to batch."""

    def __init__(
        self,
        task: Task,
        given: Images,
        settings: Fitting,
        folder: Path,
        validation: Images | None,
        seed: int,
        device: str,
        workers: int,
        trackers: list[str] | None,
    ) -> None:
        resolved = identity(task.network)
        self.accelerator = start_accelerator(device, settings.precision, trackers, folder / LOGS)
        self.processes = self.accelerator.num_processes
        shape = task.network.graph.nodes[task.network.graph.receiver].shape
        data = given_images(given, shape, self.processes)
        self.validation = None if validation is None else given_images(validation, shape, self.processes)
        settings = settings_for(settings, data)
        self.task, self.settings, self.folder = task, settings, folder
        self.seed, self.workers = seed, workers
        self.data = with_augmentation(data, settings)
        self.drop_last = len(data) > settings.batch
        self.per_epoch = (
            len(data.loader)
            if isinstance(data, Loaded)
            else batch_count(data, settings.batch, drop_last=self.drop_last)
        )
        if min(settings.batch, len(data)) < self.processes:
            what = f"a batch of {min(settings.batch, len(data))} images for {self.processes} processes"
            raise InputError(Fault(what, hint="Give a larger 'batch', or more images."))
        task.network.to(self.accelerator.device)
        self.batch_step = BatchStep(task, settings, self.accelerator, self.per_epoch, seed)
        self.settings_used = {
            **settings.model_dump(mode="json", exclude=set(FREE)),
            "seed": seed,
            "data": data.name,
            "images": len(data),
            "data_digest": _digest(data),
            "held_out_digest": _digest(self.validation),
            **resolved,
        }
        self.passed_over: list[Path] = []
        self.fastest: Fastest | None = None
        self._threads = fitting_threads(task.network)

    def hasten(self, tell: Callable[[Measured], None]) -> None:
        """Compute in the fastest way."""
        self.fastest = Fastest(self.batch_step, self.settings.epochs * self.per_epoch, tell)

    @contextmanager
    def bar(self, shown: bool) -> Iterator[Callable[[int], None]]:
        """A bar that is told how many batches are done."""
        what = f"Training {self.task.network.spec.name}"
        main = self.accelerator.is_main_process
        done = 0
        with progress_bar(what, self.settings.epochs * self.per_epoch, shown=shown and main) as advance:

            def reach(step: int) -> None:
                nonlocal done
                advance(step - done)
                done = step

            yield reach

    def run(
        self,
        resume: bool,
        on_begin: Callable[..., None],
        on_step: Callable[..., None],
        on_epoch: Callable[..., None],
        stop: Callable[[], bool],
    ) -> Fitted:
        """The loop over epochs and batches."""
        main = self.accelerator.is_main_process
        progress = self._resume() if resume else Progress()
        resumed = progress.step
        progress.settings = self.settings_used
        if main:
            self.folder.mkdir(parents=True, exist_ok=True)
            learned = sum(tensor.nbytes for tensor in self._tensors().values())
            check_room(self.folder, 3 * learned * (self.settings.keep + 2))  # Adam keeps two more of each
        on_begin()
        self.accelerator.init_trackers("training")
        stopping = False
        path = self.folder / LOSSES if main else None
        table = LossTable(path, progress.losses or None, progress.losses_sha256)
        with closing(table):
            while progress.epoch < self.settings.epochs and not stopping:
                stopping = self._epoch(progress, table, on_step, stop)
                if not stopping:
                    self._end_of_epoch(progress, table, on_epoch)
        if self.fastest is not None:
            self.fastest.end()
        if not stopping:
            check_weights(self._tensors())
        if not stopping and isinstance(self.task, Finishing):
            self.task.finish()
        if main and not stopping:
            self.task.save(self.folder)
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        return Fitted(not stopping, progress.step, resumed, self.passed_over)

    def _epoch(
        self, progress: Progress, table: LossTable, on_step: Callable[..., None], stop: Callable[[], bool]
    ) -> bool:
        """What is left of an epoch; whether it was asked to stop."""
        for batch in self._batches(self.data, progress.epoch, progress.batch, train=True):
            with self._computing(batch, progress):
                losses, stopping = self.batch_step(batch, progress.step, stop)
            progress.batch += 1
            progress.step += 1
            table.add(progress.epoch, progress.step, TRAIN, losses)
            self.accelerator.log({f"{TRAIN}/{name}": v for name, v in losses.items()}, progress.step)
            on_step(progress, losses)
            due = self.settings.checkpoint is not None and progress.step % self.settings.checkpoint == 0
            if due or stopping:
                self._save(progress, table)
            if stopping:
                return True
        return False

    def _computing(self, batch: Batch, progress: Progress) -> AbstractContextManager[None]:
        """How a batch is computed."""
        if self.fastest is None:
            return self._threads(self.settings.batch)
        return self.fastest(batch, progress.step)

    def _end_of_epoch(self, progress: Progress, table: LossTable, on_epoch: Callable[..., None]) -> None:
        found = self._measure(progress.epoch)
        check_finite(found, f"validation after epoch {progress.epoch + 1}")
        table.add(progress.epoch, progress.step, VALIDATION, found)
        self.accelerator.log({f"{VALIDATION}/{name}": v for name, v in found.items()}, progress.step)
        on_epoch(progress.epoch, found)
        progress.epoch, progress.batch = progress.epoch + 1, 0
        self._save(progress, table)

    def _batches(
        self, data: ImageData | Samples | Loaded, epoch: int, start: int = 0, *, train: bool
    ) -> Iterator[Batch]:
        which: dict[str, int] = {
            "seed": self.seed,
            "epoch": epoch if train else 0,
            "process": self.accelerator.process_index,
            "processes": self.processes,
            "start": start,
        }
        if isinstance(data, Loaded):
            return data.batches(**which)
        drop_last = train and self.drop_last
        size, workers = self.settings.batch, self.workers
        return batches(data, size, shuffle=train, drop_last=drop_last, workers=workers, **which)

    def _measure(self, epoch: int) -> dict[str, float]:
        if self.validation is None or len(self.validation) == 0:
            return {}
        torch.manual_seed(mixed_seed(self.seed, epoch, self.accelerator.process_index, 1))
        return measured(self.task, self._batches(self.validation, epoch, train=False), self.accelerator)

    def _tensors(self) -> dict[str, Tensor]:
        return moving_tensors(self.task.network, self.batch_step.parameters)

    def _save(self, progress: Progress, table: LossTable) -> None:
        if not self.accelerator.is_main_process:
            return
        progress.losses, progress.losses_sha256 = table.size(), table.sha256()
        if self.fastest is not None:
            progress.settings[FASTEST] = self.fastest.way
        state: dict[str, Any] = {"optimizer": self.batch_step.optimizer.state_dict()}
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        save_checkpoint(self.folder / CHECKPOINTS, progress, self._tensors(), state, self.settings.keep)

    def _resume(self) -> Progress:
        """Put everything where the last checkpoint says; the beginning, where there is none."""
        if isinstance(self.data, Loaded) and not self.data.repeats:
            hint = "Leave it out: the order then follows `seed`."
            message = "a loader with a generator of its own, whose order cannot be found again"
            raise InputError(Fault(message, hint=hint, where=self.data.name))
        with self.accelerator.main_process_first():
            found = load_checkpoint(self.folder / CHECKPOINTS)
        if found is None:
            return Progress()
        self.passed_over = found.passed_over
        other = {
            name for name, value in self.settings_used.items() if found.progress.settings.get(name) != value
        }
        way = found.progress.settings.get(FASTEST)
        if (way is None) != (self.fastest is None):
            other.add("fast")
        tensors = self._tensors()
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        if other or shapes != {name: tensor.shape for name, tensor in found.tensors.items()}:
            what = ", ".join(sorted(other - DIGESTS) or sorted(other)) or "the weights that learn"
            message = f"another training is in this folder: it differs in {what}"
            hint = "Train into another folder, or ask for the same."
            raise InputError(Fault(message, hint=hint, where=str(self.folder)))
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(found.tensors[name])
        self.batch_step.optimizer.load_state_dict(found.state["optimizer"])
        if self.fastest is not None and way is not None:
            self.fastest.go_on(way)
        if "scaler" in found.state:
            self.accelerator.scaler.load_state_dict(found.state["scaler"])
        return found.progress


def _digest(data: ImageData | Samples | Loaded | None) -> str | None:
    """Of images that pcgraph has read itself; what a program hands over is told by its name and number."""
    if isinstance(data, Samples):
        return data.digest
    return data_digest(data) if isinstance(data, ImageData) else None


def _nothing(*_: object) -> None:
    pass
