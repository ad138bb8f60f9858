"""What a task measures on held-out images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pcgraph.datasets import Batch
from pcgraph.training.task import Task

if TYPE_CHECKING:
    from accelerate import Accelerator


def measured(task: Task, batches: Iterable[Batch], accelerator: Accelerator) -> dict[str, float]:
    """The mean over the images of all processes, exactly once each, of what the task measures."""
    sums: dict[str, float] = {}
    count = 0
    for batch in batches:
        if len(batch):
            with accelerator.autocast():
                found = task.measure(batch.to(accelerator.device))
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(batch)
            count += len(batch)
    shares = [(sums, count)]
    if accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        shares = gather_object(shares)
    names = dict.fromkeys(name for share, _ in shares for name in share)
    total = sum(images for _, images in shares)
    return {name: sum(share.get(name, 0.0) for share, _ in shares) / total for name in names}
