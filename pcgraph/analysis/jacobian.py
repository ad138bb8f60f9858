"""The Jacobian of one step, as a linear map of which the products with vectors are known."""

from __future__ import annotations

from dataclasses import replace

import networkx
import torch
from torch import Tensor

from pcgraph.errors import Fault, InputError
from pcgraph.scheduler import Scheduler
from pcgraph.spec import EnergyDynamics
from pcgraph.state import State


class StepJacobian:
    """What a small change of a state becomes in a step.

    The space is all that a step changes: the values that move, those that delays remember, and momentum; what
    a mask holds is zero in it. The rates are those of the state's step.

    Args:
        scheduler: The network's scheduler.
        state: Where; from `Scheduler.start` or `Scheduler.step`.
        seed: Of the noise of a temperature, and of `random`.

    Attributes:
        moving: The nodes that are not clamped as a whole. A vector (size,) holds their values first.
        free: (size,), 1 where an entry moves and 0 where a mask holds it.

    Raises:
        InputError: No state moves; or the optimizer is Adam, whose steps are no map of the states alone.
    """

    def __init__(self, scheduler: Scheduler, state: State, *, seed: int = 0) -> None:
        dynamics = scheduler.network.spec.dynamics
        if isinstance(dynamics, EnergyDynamics) and dynamics.optimizer == "adam":
            hint = "Take 'gradient' or 'momentum'."
            raise InputError(
                Fault("steps of optimizer 'adam' depend on the time", ("dynamics", "optimizer"), hint)
            )
        self.moving = [name for name in state.values if name not in state.fixed]
        if not self.moving:
            raise InputError("no state moves: all nodes are clamped")
        before = self._leaves(state)
        self._generator = torch.Generator().manual_seed(seed)
        after = scheduler.step(before, generator=self._generator, differentiable=True)
        self._inputs, self._outputs = self._parts(before), self._parts(after)
        self._sizes = [one.numel() for one in self._inputs]
        free = torch.cat([_free(state, name) for name in self.moving])
        self.free = torch.cat([free, free.new_ones(sum(self._sizes) - len(free))])
        self._along: list[Tensor] = []
        self._back: list[Tensor] = []

    @property
    def size(self) -> int:
        """Dimensions of the space."""
        return len(self.free)

    def loops(self) -> list[Block]:
        """The parts of the space that act back on each other, each with the Jacobian within it.

        Nodes (and what delays remember of them, and momentum) that a step leads from one to the other and
        back are one part. No change comes back to where it left a part, so that ordered along the edges the
        Jacobian is block-triangular, and its eigenvalues are those of the blocks. Rounding moves them less
        so: of n like nodes in a row it moves the whole matrix's by its n-th root.
        """
        reads = networkx.DiGraph()
        reads.add_nodes_from(range(len(self._inputs)))
        with torch.inference_mode(False):
            for place, output in enumerate(self._outputs):
                if output.requires_grad:
                    back = torch.autograd.grad(
                        output.sum(), self._inputs, retain_graph=True, allow_unused=True
                    )
                    reads.add_edges_from((one, place) for one, found in enumerate(back) if found is not None)
        parts = sorted(sorted(part) for part in networkx.strongly_connected_components(reads))
        of = torch.arange(len(self._sizes)).repeat_interleave(torch.tensor(self._sizes)).to(self.free.device)
        blocks = [Block(self, torch.isin(of, torch.tensor(part).to(of)) & (self.free > 0)) for part in parts]
        return [one for one in blocks if one.size]

    def random(self) -> Tensor:
        """A random vector (size,) of the space."""
        drawn = torch.randn(self.size, generator=self._generator, dtype=self.free.dtype)
        return drawn.to(self.free.device) * self.free

    def transposed(self, vector: Tensor) -> Tensor:
        """The product of the transposed Jacobian, which has the same eigenvalues, with a vector (size,)."""
        shaped = self._shaped(vector, self._outputs)
        with torch.inference_mode(False):
            back = torch.autograd.grad(
                self._outputs, self._inputs, shaped, retain_graph=True, materialize_grads=True
            )
        return self._flat(back)

    def times(self, vector: Tensor) -> Tensor:
        """The product of the Jacobian with a vector (size,): the derivative of `transposed`."""
        with torch.inference_mode(False), torch.enable_grad():
            if not self._along:
                self._along = [torch.zeros_like(one, requires_grad=True) for one in self._outputs]
                self._back = list(
                    torch.autograd.grad(
                        self._outputs, self._inputs, self._along, create_graph=True, materialize_grads=True
                    )
                )
            pieces = self._shaped(vector, self._inputs)
            tied = [pair for pair in zip(self._back, pieces, strict=True) if pair[0].requires_grad]
            ahead = torch.autograd.grad(
                [back for back, _ in tied],
                self._along,
                [piece for _, piece in tied],
                retain_graph=True,
                materialize_grads=True,
            )
        return self._flat(ahead)

    def values(self, vector: Tensor) -> dict[str, Tensor]:
        """The part of a vector (size,) that is the nodes' values: (batch, *shape) each."""
        pieces = torch.split(vector, self._sizes)
        shapes = [one.shape for one in self._inputs]
        return {
            name: piece.view(shape) for name, piece, shape in zip(self.moving, pieces, shapes, strict=False)
        }

    def _leaves(self, state: State) -> State:
        def leaf(tensor: Tensor) -> Tensor:
            return tensor.detach().requires_grad_()

        values = {name: leaf(state.values[name]) for name in self.moving}
        past = {name: tuple(map(leaf, state.past[name])) for name in self.moving if name in state.past}
        moments = {name: tuple(map(leaf, kept)) for name, kept in state.moments.items()}
        return replace(state, values={**state.values, **values}, past={**state.past, **past}, moments=moments)

    def _parts(self, state: State) -> list[Tensor]:
        past = [one for name in self.moving for one in state.past.get(name, ())]
        moments = [one for kept in state.moments.values() for one in kept]
        return [*(state.values[name] for name in self.moving), *past, *moments]

    def _shaped(self, vector: Tensor, like: list[Tensor]) -> list[Tensor]:
        pieces = torch.split(vector * self.free, self._sizes)
        return [piece.view_as(one) for piece, one in zip(pieces, like, strict=True)]

    def _flat(self, tensors: tuple[Tensor, ...]) -> Tensor:
        return torch.cat([one.detach().flatten() for one in tensors]) * self.free


class Block:
    """The Jacobian within a part of the space.

    Args:
        whole: That of the whole space.
        inside: (whole.size,), which entries belong to the part.

    Attributes:
        size: Dimensions of the part.
        free: (size,), ones in the type and place of its vectors.
    """

    def __init__(self, whole: StepJacobian, inside: Tensor) -> None:
        self._whole, self._places = whole, inside.nonzero().flatten()
        self.size, self.free = len(self._places), whole.free[inside]

    def random(self) -> Tensor:
        """A random vector (size,) of the part."""
        return self._whole.random()[self._places]

    def times(self, vector: Tensor) -> Tensor:
        """The product with a vector (size,)."""
        return self._whole.times(self.spread(vector))[self._places]

    def transposed(self, vector: Tensor) -> Tensor:
        """The product of the transposed block with a vector (size,)."""
        return self._whole.transposed(self.spread(vector))[self._places]

    def spread(self, vector: Tensor) -> Tensor:
        """A vector (size,) in the whole space, zero outside the part."""
        return vector.new_zeros(self._whole.size).index_copy(0, self._places, vector)


def _free(state: State, node: str) -> Tensor:
    """1 where a node's entries move, 0 where a mask holds them."""
    held, value = state.clamp.get(node), state.values[node]
    return torch.ones_like(value).flatten() if held is None else (~held).to(value.dtype).flatten()
