"""What every node of a traced graph computes: shapes and costs, found without computing it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pcgraph.display.interruptions import uninterrupted
from pcgraph.display.logs import without_log
from pcgraph.errors import Fault, ModelError
from pcgraph.tracing.draws import refuse_draws
from pcgraph.tracing.snapshot import Snapshot
from pcgraph.tracing.storage import drop_storage, needs_no_storage

BATCH = 2


@dataclass(frozen=True)
class Value:
    """What one node computes.

    Attributes:
        shape: Shape without the batch; None when the value is no tensor, or has no batch in front.
        type: Name of the value's type, ``Tensor`` for tensors.
        holds_tensor: Whether it is a tensor or holds one, and so can carry what an image shows.
        cost: Multiply-adds for one image.
        dtype: The type of a tensor's numbers.
    """

    shape: tuple[int, ...] | None
    type: str
    holds_tensor: bool
    cost: int = 0
    dtype: torch.dtype | None = None

    def fits(self, dtype: torch.dtype) -> bool:
        """Whether a state of this type holds it without loss: real numbers, no more of their digits."""
        real = self.dtype is not None and self.dtype.is_floating_point
        return real and torch.promote_types(self.dtype, dtype) == dtype  # type: ignore[arg-type]


def propagate(
    root: nn.Module, graph: fx.Graph, input_shape: tuple[int, ...], qualified: Mapping[str, str]
) -> dict[str, Value]:
    """Find what each node of ``graph`` computes for images of ``input_shape``.

    Nothing is computed where the model allows it: shapes only, without storage or on fake tensors. It is run
    for one image and for two, which tells apart a batch dimension and one that happens to be as long.

    Args:
        root: The module that the graph refers to; on any device, ``meta`` included.
        graph: A graph with one placeholder.
        input_shape: Shape of one image.
        qualified: Qualified names by node name, for errors.

    Returns:
        A value for each node name.

    Raises:
        ModelError: The model cannot take images of that shape.
    """
    before = Snapshot(root)  # modules may keep what they computed, and that is no number here

    def run(batch: int, stored: bool) -> tuple[dict[str, Any], dict[str, int]]:
        try:
            if not stored:
                drop_storage(root)
            return _run(root, graph, (batch, *input_shape), qualified)
        finally:
            before.restore()

    def both(stored: bool) -> dict[str, Value]:
        one, cost = run(1, stored)
        two, _ = run(BATCH, stored)
        return {name: _describe(one[name], two[name], cost.get(name, 0)) for name in one}

    if needs_no_storage(root, graph):
        with contextlib.suppress(ModelError):  # what is wrong is said of the model as it is
            return both(stored=False)
    return both(stored=True)


def _describe(one: Any, two: Any, cost: int) -> Value:
    shape: tuple[int, ...] | None = None
    if isinstance(one, tuple) and one and one[0] is _SHAPE:
        first, second = one[1], two[1]
        if first[:1] == (1,) and second[:1] == (BATCH,) and first[1:] == second[1:]:
            shape = tuple(first[1:])
        return Value(shape, "Tensor", True, cost, one[2])
    return Value(None, one[1], one[2], cost)


_SHAPE = object()


class _Recorder(fx.Interpreter):
    """Keeps of every value only what is to be known about it."""

    def __init__(
        self, root: nn.Module, graph: fx.Graph, counter: FlopCounterMode, qualified: Mapping[str, str]
    ) -> None:
        super().__init__(root, graph=graph)
        self.counter = counter
        self.qualified = qualified
        self.seen: dict[str, Any] = {}
        self.cost: dict[str, int] = {}
        self.extra_traceback = False

    def run_node(self, n: fx.Node) -> Any:
        before = self.counter.get_total_flops()
        try:
            value = super().run_node(n)
        except (ModelError, *_NEEDS_VALUES):
            raise
        except Exception as error:
            place = self.qualified.get(n.name, n.name)
            raise _NodeError(place, error) from error
        self.cost[n.name] = (self.counter.get_total_flops() - before) // 2
        if isinstance(value, Tensor):
            self.seen[n.name] = (_SHAPE, tuple(int(size) for size in value.shape), value.dtype)
        else:
            self.seen[n.name] = (None, type(value).__name__, _holds_tensor(value))
        return value


_NEEDS_VALUES = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)


def needs_values(error: BaseException | None) -> bool:
    """Whether something failed because a model without storage has no values."""
    while error is not None:
        text = str(error).lower()
        if (
            isinstance(error, (NotImplementedError, *_NEEDS_VALUES))
            or "meta" in text
            or "data-dependent" in text
        ):
            return True
        error = error.__cause__
    return False


class _NodeError(Exception):
    def __init__(self, place: str, error: Exception) -> None:
        super().__init__(f"at '{place}': {str(error).strip().partition(chr(10))[0]}")


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, Tensor):
        return True
    if isinstance(value, Mapping):
        return any(_holds_tensor(part) for part in value.values())
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        return any(_holds_tensor(part) for part in value)
    return hasattr(value, "__dataclass_fields__") and any(map(_holds_tensor, vars(value).values()))


def _run(
    root: nn.Module, graph: fx.Graph, shape: tuple[int, ...], qualified: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, int]]:
    dtype, device = like_weights(root)
    fake = FakeTensorMode(allow_non_fake_inputs=True) if device.type != "meta" else contextlib.nullcontext()
    failure: Exception | None = None
    for mode in (fake, contextlib.nullcontext()):
        counter = FlopCounterMode(display=False)
        with (
            uninterrupted(),
            _attention_by_matmul(),
            without_log("torch._subclasses.fake_tensor"),
            torch.no_grad(),
            mode,
            counter,
            refuse_draws(),
        ):
            recorder = _Recorder(root, graph, counter, qualified)
            try:
                recorder.run(torch.zeros(shape, dtype=dtype, device=device))
                return recorder.seen, recorder.cost
            except _NEEDS_VALUES as error:  # only real numbers will do
                failure = error
            except _NodeError as error:
                raise ModelError(
                    Fault(
                        f"the model cannot take an input of shape {shape[1:]}, {error}",
                        hint="Give the input shape that it was made for, without the batch.",
                    )
                ) from error
    raise ModelError(f"the shapes of the model's values cannot be found: {failure}") from failure


def like_weights(root: nn.Module) -> tuple[torch.dtype, torch.device]:
    """The floating-point type and the device of a module's weights, and so of its images."""
    tensors = [*root.parameters(), *root.buffers()]
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    dtype = floating[0].dtype if floating else torch.get_default_dtype()
    return dtype, tensors[0].device if tensors else torch.device("cpu")


@contextlib.contextmanager
def _attention_by_matmul() -> Iterator[None]:
    """Keep attention out of the fused kernels, not all of whose multiply-adds are counted."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
