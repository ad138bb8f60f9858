"""Runs whose maps lie channels-last in memory, and are shown as if they did not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from pcgraph.simulation.step import Evaluation
from pcgraph.state import State


class ChannelsLast:
    """Lays out the states of a run, and lays them back for all who look.

    Step 0 stays as it was made, and the first step starts from it.

    Args:
        start: The state at step 0.
    """

    def __init__(self, start: State) -> None:
        fixed = {name: start.values[name] for name in start.fixed}
        self._start = replace(start, values=fixed, past={}, moments={})  # what moves is not kept
        self._constants = _laid_out(dict(start.constants), torch.channels_last)
        self._resting = _laid_out(dict(start.resting), torch.channels_last)

    def laid_out(self, state: State) -> State:
        """The same state with maps channels-last."""
        values, past, moments = (
            _laid_out(dict(part), torch.channels_last) for part in (state.values, state.past, state.moments)
        )
        return replace(
            state,
            values=values,
            past=past,
            moments=moments,
            constants=self._constants,
            resting=self._resting,
        )

    def shown(self, state: State) -> State:
        """The same state with maps in rows, each laid out when it is read."""
        start = self._start
        return replace(
            state,
            values=_InRows(state.values, start.values),
            past=_InRows(state.past),
            moments=_InRows(state.moments),
            constants=start.constants,
            resting=start.resting,
        )

    def laid_back(self, state: State) -> State:
        """The same state with maps in rows."""
        rows = self.shown(state)
        return replace(rows, values=dict(rows.values), past=dict(rows.past), moments=dict(rows.moments))


def in_rows(evaluation: Evaluation) -> Evaluation:
    """The same with maps in rows."""
    return Evaluation(*(_laid_out(part, torch.contiguous_format) for part in vars(evaluation).values()))


def lay_out(module: nn.Module, channels_last: bool) -> None:
    """Let the maps among a module's numbers lie so in memory; the tensors and their numbers stay."""
    form = torch.channels_last if channels_last else torch.contiguous_format
    with torch.inference_mode(False):  # what is made there could not be differentiated later
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.dim() == 4:
                tensor.data = tensor.data.contiguous(memory_format=form)


def _laid_out(values: Any, form: torch.memory_format) -> Any:
    """Nested values with their maps laid out; other tensors as they are."""

    def lay_out(one: Tensor) -> Tensor:
        return one.contiguous(memory_format=form) if one.dim() == 4 else one

    return tree_map_only(Tensor, lay_out, values)


class _InRows(Mapping[str, Any]):
    """Values by node, each laid out when it is first read.

    Args:
        values: The values.
        known: Those of them that are there in rows.
    """

    def __init__(self, values: Mapping[str, Any], known: Mapping[str, Any] = {}) -> None:
        self._values, self._made = values, dict(known)

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _laid_out(self._values[name], torch.contiguous_format)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
