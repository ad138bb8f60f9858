"""The network: backbone, predictors and dynamics, and no state."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pcgraph.display.text import format_count
from pcgraph.dynamics.energies import TermEnergy
from pcgraph.dynamics.gains import Dynamics
from pcgraph.errors import Fault, ModelError, PCGraphWarning, suggestions
from pcgraph.files.tensors import kind_of, save_tensors, type_of
from pcgraph.graph import Edge, PCGraph
from pcgraph.predictors.edges import EdgeFunctions
from pcgraph.runs.record import check_written
from pcgraph.spec import Spec
from pcgraph.tracing.drive import Drive
from pcgraph.tracing.weight_fit import Own

if TYPE_CHECKING:
    from pcgraph import Optimized


class PCNetwork(nn.Module):
    """What `build` makes: everything that has parameters, and the graph that ties it together.

    Attributes:
        spec: The spec that it was built from.
        graph: Nodes, edges and error terms.
        drive: The backbone cut at the nodes; None without a backbone.
        predictors: The functions of all other edges, by edge name.
        starts: What makes the learned first guesses of the states, by edge name; see `PCGraph.starts`.
        dynamics: The rule, as gains.
        energies: The energies of the error terms, by the first edge of each; see `energy`.
    """

    def __init__(
        self,
        spec: Spec,
        graph: PCGraph,
        drive: Drive | None,
        predictors: nn.ModuleDict,
        dynamics: Dynamics,
        starts: nn.ModuleDict | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.graph = graph
        self.drive = drive
        self.predictors = EdgeFunctions(dict(predictors.items()))
        self.dynamics = dynamics
        self.energies = nn.ModuleDict()
        for first, *_ in graph.terms.values():
            shape = graph.nodes[first.target].shape
            self.energies[first.name] = TermEnergy(first.energy, first.precision, shape)
        self.starts = nn.ModuleDict() if starts is None else starts

    @property
    def feedback_trained(self) -> bool:
        """Whether the predictors' weights were loaded: from a file, or by `load_state_dict`."""
        return self.predictors.trained

    @feedback_trained.setter
    def feedback_trained(self, trained: bool) -> None:
        self.predictors.trained = trained

    def __repr__(self) -> str:
        counts = [p.numel() for p in self.parameters()]
        learning = [p.numel() for p in self.parameters() if p.requires_grad]
        weights = f"{format_count(sum(counts))} parameters, {format_count(sum(learning))} require a gradient"
        place = f"{str(self.dtype).removeprefix('torch.')} on {self.device}"
        return f"PCNetwork of {self.spec!r}\n{self.graph.summary()}\n  {weights}; {place}"

    def _repr_html_(self) -> str | None:
        """The wiring, drawn, in a notebook; None without matplotlib, where the text is shown."""
        from pcgraph import wiring_html

        return wiring_html(self)

    def forward(self, inputs: Tensor, steps: int | None = None) -> Any:
        """What the network makes of images after some steps of its dynamics: ``network(images, steps=10)``.

        No state is kept; `Scheduler` gives the steps between, and takes clamps and masks. As in any module,
        gradients flow through the whole run where they are enabled and the images or a parameter require
        them; under `torch.no_grad` nothing is kept for them.

        Args:
            inputs: Images (batch, *shape), as for `Scheduler.start`.
            steps: Number of steps; left out, the spec's. A ``tolerance`` in the spec may end them early.

        Returns:
            The backbone's output for the last state: what ``backbone.output`` picks of what the model
            returns. Without a backbone, in which no node is the output: the last state of every node
            (batch, *shape), by name.

        Raises:
            InputError: An input or a number of steps that does not fit.
            DivergenceError: A state is not finite.
        """
        from pcgraph import Scheduler  # which stands above this room, and runs it

        tracked = inputs.requires_grad or any(p.requires_grad for p in self.parameters())
        differentiable = tracked and torch.is_grad_enabled()
        scheduler = Scheduler(self)
        state = scheduler.run(inputs, steps, record=[], differentiable=differentiable).state
        if self.drive is None:
            return dict(state.values)
        return scheduler.readout(state, differentiable=differentiable)

    def optimize(
        self,
        inputs: Tensor | None = None,
        *,
        steps: int | None = None,
        memory: float = 2e9,
        clamp: Mapping[str, Tensor] | None = None,
        mask: Mapping[str, Tensor] | None = None,
        free: Collection[str] = (),
        record: Iterable[str] = (),
    ) -> Optimized:
        """Measure how runs on inputs of this shape are fastest, and let the network be run so.

        Tried are the network as it is, its large kernels in tiles (`choose_convolutions`), channels-last, and
        compiled steps. What is not faster, or makes other states than by rounding, is not chosen. The choice
        is kept for later processes on this machine, which measure nothing (`pcgraph cache`).

        The network is changed in place: how its weights lie in memory, and how layers are computed; not what
        they compute. Call it in the autocast context, if any, and with the number of threads that the runs
        will have.

            fast = network.requires_grad_(False).optimize(images)
            run = fast.scheduler.run(images, steps=10)

        Args:
            inputs: Images (batch, *shape), such as the runs will have.
            steps: How many steps are to come in this process: compiling is tried if it may pay off within
                them. Left out, it is tried where later processes can load what was compiled.
            memory: What the transformed weights of tiles may take, in bytes.
            clamp: Values of other nodes that the runs will hold, with ``mask`` and ``free``; see
                `Scheduler.run`.
            mask: Which part of a node they will hold.
            free: Given nodes that will move.
            record: What they will keep.

        Raises:
            InputError: The inputs do not fit, or ``steps`` is negative.
        """
        from pcgraph import optimize  # which stands above this room, and runs it

        return optimize(
            self, inputs, steps=steps, memory=memory, clamp=clamp, mask=mask, free=free, record=record
        )

    def draws(self, seed: int, places: Sequence[int], step: int) -> dict[str, Tensor]:
        """What a backbone that is random in eval mode draws at a step; empty where none is."""
        return {} if self.drive is None else self.drive.draws(seed, places, step, self.device)

    def energy(self, term: str) -> TermEnergy:
        """The energy of an error term."""
        energy = self.energies[self.graph.terms[term][0].name]
        assert isinstance(energy, TermEnergy)
        return energy

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the parameters, and so of the states."""
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.get_default_dtype())

    def save_weights(self, path: str | Path) -> None:
        """Write what the spec's edges learn to one safetensors file, keyed ``EDGE.parameter``.

        That is the predictors' weights and learned precisions, and as ``start:EDGE.parameter`` the weights of
        the first guesses; the backbone's weights are not in it.
        """
        save_tensors(self._learned(), Path(path))

    def load_weights(self, path: str | Path, *, strict: bool = True) -> None:
        """Read what the edges have learned from a file that `save_weights` or the importer wrote.

        Args:
            path: A safetensors file.
            strict: Whether the file has what this network's edges learn, and nothing else. If not, it is a
                bank: edges that it lacks stay as they are, others that it has are passed over, and a warning
                names them. `feedback_trained` then says whether it lacked none.

        Raises:
            InputError: The file is in a run folder, and is not what the run wrote.
            ModelError: The file is missing or unreadable, or its tensors do not fit the predictors.
        """
        if not Path(path).is_file():
            raise ModelError(Fault(f"there is no weight file '{path}'", ("weights",)))
        check_written(Path(path))
        try:
            weights = load_file(path)
        except Exception as error:  # safetensors raises its own type for a damaged file
            raise ModelError(Fault(f"'{path}' is not a safetensors file: {error}", ("weights",))) from None
        own, tied = self._learned(), self._tied()
        absent = [name for name in own if not any(other in weights for other in tied.get(name, [name]))]
        lacking: list[str] = []
        if not strict:
            mine, theirs = _edges(own), _edges(weights)
            lacking = [edge for edge in mine if edge in _edges(absent) and edge not in theirs]
            others = [edge for edge in theirs if edge not in mine]
            weights = {name: tensor for name, tensor in weights.items() if _edge(name) in mine}
            absent = [name for name in absent if _edge(name) not in lacking]
            _tell(Path(path), lacking, others)
        there, ours = suggestions(weights), suggestions(own)
        faults = [_weight_fault(name, "is missing", there) for name in absent]
        faults += [_weight_fault(name, "belongs to no edge", ours) for name in weights if name not in own]
        faults += [
            Fault(
                f"'{name}' has shape {tuple(weights[name].shape)}, expected {tuple(own[name].shape)}",
                ("weights",),
            )
            for name in own
            if name in weights and own[name].shape != weights[name].shape
        ]
        faults += [
            Fault(f"'{name}' is {type_of(weights[name])}, expected {type_of(own[name])}", ("weights",))
            for name in own
            if name in weights and kind_of(own[name]) != kind_of(weights[name])
        ]
        if faults:
            raise ModelError(faults)
        for part, prefix in self._parts():
            held = {name: weights[prefix + name] for name in part.state_dict() if prefix + name in weights}
            part.load_state_dict(held, strict=False)
        self.feedback_trained = not lacking

    def _learned(self) -> dict[str, Tensor]:
        return {
            prefix + name: tensor
            for part, prefix in self._parts()
            for name, tensor in part.state_dict().items()
        }

    def _tied(self) -> dict[str, list[str]]:
        """All names, in a weight file, of the tensor that a name stands for."""
        groups = [
            [prefix + name for name in names] for part, prefix in self._parts() for names in Own(part).tied
        ]
        return {name: names for names in groups for name in names}

    def _parts(self) -> list[tuple[nn.ModuleDict, str]]:
        """What learns besides the backbone, each with the prefix of its names in a weight file."""
        return [(self.predictors, ""), (self.energies, ""), (self.starts, "start:")]


def _edge(name: str) -> str:
    """The edge that a tensor of a weight file belongs to."""
    return name.partition(".")[0]


def _edges(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(map(_edge, names)))


def _tell(path: Path, lacking: list[str], others: list[str]) -> None:
    """Warn of what a bank of weights and a wiring do not share."""
    said = [f"not in it, and not trained: {', '.join(lacking)}"] if lacking else []
    said += [f"not in this wiring: {len(others)} of its edges"] if others else []
    if said:
        warnings.warn(f"'{path}': {'; '.join(said)}", PCGraphWarning, stacklevel=3)


def _weight_fault(name: str, problem: str, suggest: Callable[[str], str]) -> Fault:
    return Fault(f"tensor '{name}' {problem} in the weight file", ("weights",), suggest(name))


def read(edge: Edge, values: Mapping[str, Tensor]) -> list[Tensor]:
    """What an edge's function is given of these states: copies, where it may write into them."""
    return [values[name].clone() if edge.is_foreign else values[name] for name in edge.sources]
