"""Several processes that share the work of one evaluation."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from pcgraph.errors import Fault, InputError

T = TypeVar("T")
PATIENCE = timedelta(days=2)
"""How long a process waits for the others, whose share may take longer; torch would give up after minutes."""


@dataclass(frozen=True)
class Processes:
    """This process's place among those that ``torchrun`` or ``accelerate launch`` started.

    Attributes:
        index: Its number, from 0.
        count: How many there are.
        local: Its number on this machine, which is its GPU's.
    """

    index: int = 0
    count: int = 1
    local: int = 0

    @classmethod
    def find(cls, on_cpu: bool) -> Processes:
        """Join the other processes, if there are any.

        Args:
            on_cpu: Whether they compute on the CPU.

        Raises:
            InputError: There are, and accelerate is not installed.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        try:
            import accelerate  # noqa: F401
        except ImportError:
            raise InputError(
                Fault("several processes need accelerate", hint="pip install 'pcgraph[evaluate]'")
            ) from None
        from pcgraph.training.accelerator import join_processes

        state = join_processes(on_cpu, timeout=PATIENCE)
        return cls(state.process_index, state.num_processes, state.local_process_index)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes the results."""
        return self.index == 0

    def wait(self) -> None:
        """Wait for the others."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    def agree(self, value: T) -> T:
        """What the first process has as ``value``."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        shared: T = broadcast_object_list([value])[0]
        return shared
