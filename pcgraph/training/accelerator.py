"""Where a training computes: device, mixed precision, processes and trackers, by accelerate."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pcgraph.errors import Fault, InputError, closest
from pcgraph.spec.training import Precision

MIXED: dict[str, str] = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
DEFAULT_TRACKER = "tensorboard"


def is_main_process() -> bool:
    """Whether this is the process that prints and writes; known before accelerate is started."""
    return int(os.environ.get("RANK", "0")) == 0


def process_count() -> int:
    """How many processes train together; known before accelerate is started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def start_accelerator(
    device: str = "auto",
    precision: Precision = "float32",
    trackers: Sequence[str] | None = None,
    logs: Path | None = None,
) -> Any:
    """An ``accelerate.Accelerator``; under ``torchrun`` or ``accelerate launch`` it joins the processes.

    Args:
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        precision: What the forward pass computes in.
        trackers: Names of accelerate's trackers; None means TensorBoard where it is installed.
        logs: Where trackers write; none are started without it.

    Raises:
        InputError: accelerate or a tracker is not installed, or the device cannot do that.
    """
    names = check_setup(device, precision, trackers)
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if device.startswith("cuda:"):
        os.environ["ACCELERATE_TORCH_DEVICE"] = device
    AcceleratorState._reset_state(reset_partial_state=True)  # a process may train twice, each time otherwise
    join_processes(_on_cpu(device))
    return Accelerator(
        mixed_precision=MIXED[precision],
        cpu=_on_cpu(device),
        log_with=None if logs is None else names or None,
        project_dir=logs,
    )


def join_processes(on_cpu: bool, **options: Any) -> Any:
    """The ``accelerate.PartialState`` of this process, which meets the others now and parts at its end.

    A process that ended without parting was now and then aborted, its work done, by a thread of gloo that
    still ran ("terminate called without an active exception"); torchrun took that for a failure.

    Args:
        on_cpu: Whether the processes compute on the CPU.
        options: Further arguments of `torch.distributed.init_process_group`.
    """
    from accelerate import PartialState

    state = PartialState(cpu=on_cpu, **options, **meeting_place())
    atexit.register(_part)
    return state


def _part() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def meeting_place() -> dict[str, Any]:
    """Where processes of ``torchrun`` find each other: arguments of `torch.distributed.init_process_group`.

    torchrun lends them its own store, and when it has started them again, the addresses of the killed ones
    still stand there. So each start has a part of the store to itself.
    """
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT")
    if start is None or torch.distributed.is_initialized():
        return {}
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, rank, count = next(rendezvous("env://"))
    return {"store": PrefixStore(f"start {start}", store), "rank": rank, "world_size": count}


def check_setup(device: str, precision: Precision, trackers: Sequence[str] | None) -> list[str]:
    """Make sure that a training can begin, before anything is written; gives the trackers.

    Raises:
        InputError: As `start_accelerator`.
    """
    try:
        import accelerate  # noqa: F401
    except ImportError:
        message = "the package accelerate is not installed"
        raise InputError(Fault(message, hint="Install it: pip install 'pcgraph[train]'")) from None
    if _on_cpu(device) and precision == "float16":
        hint = "Write 'bfloat16', which a CPU can do, or 'float32'."
        raise InputError(Fault("precision 'float16' needs a GPU", hint=hint))
    return _trackers(trackers)


def _on_cpu(device: str) -> bool:
    if device == "auto":
        return not torch.cuda.is_available()
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise InputError(Fault(f"device '{device}' cannot be used", hint="Try 'cpu', 'cuda' or 'auto'."))
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise InputError(Fault(f"there is no device '{device}' here", hint="Try 'cpu' or 'auto'."))
    return kind == "cpu"


def _trackers(names: Sequence[str] | None) -> list[str]:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    installed = [str(name) for name in get_available_trackers()]
    if names is None:
        return [DEFAULT_TRACKER] if DEFAULT_TRACKER in installed else []
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise InputError(Fault(f"there is no tracker '{name}'", hint=closest(name, LOGGER_TYPE_TO_CLASS)))
        if name not in installed:
            raise InputError(Fault(f"the tracker '{name}' is not installed", hint=f"pip install {name}"))
    return list(names)
