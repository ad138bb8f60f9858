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
        blocks = [Block(self, part) for part in parts]
        return [one for one in blocks if one.free.any()]

    def random(self) -> Tensor:
        """A random vector (size,) of the space."""
        return self._all.random()

    def transposed(self, vector: Tensor) -> Tensor:
        """The product of the transposed Jacobian, which has the same eigenvalues, with a vector (size,)."""
        return self._all.transposed(vector)

    def times(self, vector: Tensor) -> Tensor:
        """The product of the Jacobian with a vector (size,): the derivative of `transposed`."""
        return self._all.times(vector)

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

    @property
    def _all(self) -> Block:
        return Block(self, list(range(len(self._inputs))))

    def _derivatives(self) -> list[Tensor]:
        """The products of the transposed Jacobian with `_along`, which can be differentiated for it."""
        if not self._along:
            self._along = [torch.zeros_like(one, requires_grad=True) for one in self._outputs]
            self._back = list(
                torch.autograd.grad(
                    self._outputs, self._inputs, self._along, create_graph=True, materialize_grads=True
                )
            )
        return self._back


class Block:
    """The Jacobian within some parts of the space; a product takes the work of these alone.

    Args:
        whole: That of the whole space.
        parts: Places of the parts.

    Attributes:
        size: Dimensions.
        free: (size,), 1 where an entry moves and 0 where a mask holds it.
    """

    def __init__(self, whole: StepJacobian, parts: list[int]) -> None:
        self._whole, self._parts = whole, parts
        self._sizes = [whole._sizes[part] for part in parts]
        self.size = sum(self._sizes)
        split = torch.split(whole.free, whole._sizes)
        self.free = torch.cat([split[part] for part in parts])

    def random(self) -> Tensor:
        """A random vector (size,)."""
        drawn = torch.randn(self.size, generator=self._whole._generator, dtype=self.free.dtype)
        return drawn.to(self.free.device) * self.free

    def times(self, vector: Tensor) -> Tensor:
        """The product with a vector (size,)."""
        whole = self._whole
        with torch.inference_mode(False), torch.enable_grad():
            back = whole._derivatives()
            pieces = self._shaped(vector, [whole._inputs[part] for part in self._parts])
            tied = [(back[p], piece) for p, piece in zip(self._parts, pieces, strict=True)]
            tied = [pair for pair in tied if pair[0].requires_grad]
            along = [whole._along[part] for part in self._parts]
            if not tied:
                return torch.zeros_like(self.free)
            ahead = torch.autograd.grad(
                [one for one, _ in tied],
                along,
                [piece for _, piece in tied],
                retain_graph=True,
                materialize_grads=True,
            )
        return self._flat(ahead)

    def transposed(self, vector: Tensor) -> Tensor:
        """The product of the transposed block with a vector (size,)."""
        outputs = [self._whole._outputs[part] for part in self._parts]
        pieces = self._shaped(vector, outputs)
        tied = [pair for pair in zip(outputs, pieces, strict=True) if pair[0].requires_grad]
        if not tied:
            return torch.zeros_like(self.free)
        with torch.inference_mode(False):
            back = torch.autograd.grad(
                [one for one, _ in tied],
                [self._whole._inputs[part] for part in self._parts],
                [piece for _, piece in tied],
                retain_graph=True,
                materialize_grads=True,
            )
        return self._flat(back)

    def spread(self, vector: Tensor) -> Tensor:
        """A vector (size,) in the whole space, zero outside the parts."""
        pieces = dict(zip(self._parts, torch.split(vector, self._sizes), strict=True))
        sizes = enumerate(self._whole._sizes)
        return torch.cat([pieces.get(part, vector.new_zeros(size)) for part, size in sizes])

    def _shaped(self, vector: Tensor, like: list[Tensor]) -> list[Tensor]:
        pieces = torch.split(vector * self.free, self._sizes)
        return [piece.view_as(one) for piece, one in zip(pieces, like, strict=True)]

    def _flat(self, tensors: tuple[Tensor, ...]) -> Tensor:
        return torch.cat([one.detach().flatten() for one in tensors]) * self.free


def _free(state: State, node: str) -> Tensor:
    """1 where a node's entries move, 0 where a mask holds them."""
    held, value = state.clamp.get(node), state.values[node]
    return torch.ones_like(value).flatten() if held is None else (~held).to(value.dtype).flatten()
