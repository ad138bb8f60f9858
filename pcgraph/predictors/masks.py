"""Weight masks: connections of an edge that are not there."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcgraph.errors import Fault, FieldPath, SpecError
from pcgraph.files.kinds import instead_of_file
from pcgraph.graph import Edge
from pcgraph.spec.mask import ARRAYS, Mask

if TYPE_CHECKING:
    import networkx as nx


_NO_WEIGHT = re.compile(r"(1(\.0*)?|\{(?!.*weight).*)?")
"""What may follow the two nodes of an edge in an edge list: 1, or networkx's data without a weight."""


class Masked(nn.Module):
    """A layer whose weights count only where its ``mask`` is 1; elsewhere they are zero.

    The gradient of a weight that is not there is zero too, so that an optimizer which only follows
    gradients, decays weights or remembers either of these leaves it at zero.
    """

    mask: Tensor

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        with torch.no_grad():
            self.get_parameter("weight").mul_(self.mask)


class MaskedLinear(Masked, nn.Linear):
    """`torch.nn.Linear` with a mask."""

    def forward(self, input: Tensor) -> Tensor:
        """See `torch.nn.Linear`."""
        return F.linear(input, self.weight * self.mask, self.bias)


class _MaskedConv(Masked, nn.modules.conv._ConvNd):
    def forward(self, input: Tensor) -> Tensor:
        """See the layer of `torch.nn` without a mask."""
        predicted: Tensor = self._conv_forward(input, self.weight * self.mask, self.bias)
        return predicted


class MaskedConv1d(_MaskedConv, nn.Conv1d):
    """`torch.nn.Conv1d` with a mask of its channels."""


class MaskedConv2d(_MaskedConv, nn.Conv2d):
    """`torch.nn.Conv2d` with a mask of its channels."""


class MaskedConv3d(_MaskedConv, nn.Conv3d):
    """`torch.nn.Conv3d` with a mask of its channels."""


_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class _MaskedConvTranspose(Masked, nn.modules.conv._ConvTransposeNd):
    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """See the layer of `torch.nn` without a mask; ``output_size`` is the layer's own."""
        predicted: Tensor = _TRANSPOSED[self.weight.dim() - 2](
            input,
            self.weight * self.mask,
            self.bias,
            self.stride,
            self.padding,  # type: ignore[arg-type]
            self.output_padding,
            self.groups,
            self.dilation,
        )
        return predicted


class MaskedConvTranspose1d(_MaskedConvTranspose, nn.ConvTranspose1d):
    """`torch.nn.ConvTranspose1d` with a mask of its channels."""


class MaskedConvTranspose2d(_MaskedConvTranspose, nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d` with a mask of its channels."""


class MaskedConvTranspose3d(_MaskedConvTranspose, nn.ConvTranspose3d):
    """`torch.nn.ConvTranspose3d` with a mask of its channels."""


MASKED: dict[type[nn.Module], type[Masked]] = {
    nn.Linear: MaskedLinear,
    nn.Conv1d: MaskedConv1d,
    nn.Conv2d: MaskedConv2d,
    nn.Conv3d: MaskedConv3d,
    nn.ConvTranspose1d: MaskedConvTranspose1d,
    nn.ConvTranspose2d: MaskedConvTranspose2d,
    nn.ConvTranspose3d: MaskedConvTranspose3d,
}
"""The layers that a mask can be for."""


def mask_weights(module: nn.Module, edge: Edge, folder: Path) -> None:
    """Take out, in place, the connections of an edge's predictor that its mask leaves out.

    The weights that stay keep their values, and all keep their names.

    Args:
        module: The predictor.
        edge: The edge.
        folder: Where relative files start from.

    Raises:
        SpecError: The predictor has no layer that can be masked or several, or the mask does not fit it.
    """
    if edge.mask is None:
        return
    path = (*edge.path, "mask")
    layers = [part for part in module.modules() if type(part) in MASKED]
    if len(layers) != 1:
        hint = f"It takes out connections of one {', '.join(kind.__name__ for kind in MASKED)}."
        message = f"edge '{edge.name}' has {len(layers)} layers that a mask could be for, expected one"
        raise SpecError(Fault(message, path, hint))
    (layer,) = layers
    if getattr(layer, "groups", 1) != 1:
        raise SpecError(Fault("a convolution in groups takes no mask", path, "'groups' is one already."))
    weight = layer.weight
    assert isinstance(weight, nn.Parameter)
    backwards = isinstance(layer, nn.modules.conv._ConvTransposeNd)  # its weight is (in, out, ...)
    targets, sources = (weight.shape[1], weight.shape[0]) if backwards else weight.shape[:2]
    matrix = mask_matrix(edge.mask, targets, sources, folder, path)
    if not matrix.any():
        hint = "In a graph for two sizes, the source's units come first, then the target's."
        raise SpecError(Fault(f"the mask leaves none of the {matrix.numel()} weights", path, hint))
    matrix = (matrix.T if backwards else matrix).view(*weight.shape[:2], *[1] * (weight.dim() - 2))
    layer.__class__ = MASKED[type(layer)]
    layer.register_buffer("mask", matrix.to(weight), persistent=False)
    with torch.no_grad():
        weight.mul_(matrix)


def mask_matrix(mask: Mask, targets: int, sources: int, folder: Path, path: FieldPath = ()) -> Tensor:
    """Which weights there are: (targets, sources), of torch.bool.

    Args:
        mask: What the spec says.
        targets: Units (or channels) that are predicted.
        sources: Units (or channels) that predict.
        folder: Where relative files start from.
        path: The field of the spec, for messages.

    Raises:
        SpecError: The mask does not fit these numbers, or its file cannot be read.
    """
    if mask.density is not None:
        count = round(mask.density * targets * sources)
        order = torch.randperm(targets * sources, generator=torch.Generator().manual_seed(mask.seed))
        return (order < count).view(targets, sources)
    if mask.blocks is not None:
        blocks = torch.tensor(mask.blocks, dtype=torch.bool)
        for units, parts, whose in ((targets, len(blocks), "target"), (sources, blocks.shape[1], "source")):
            if units % parts:
                message = f"the {units} units of the {whose} cannot be cut into {parts} equal parts"
                raise SpecError(Fault(message, (*path, "blocks")))
        return blocks.repeat_interleave(targets // len(blocks), 0).repeat_interleave(
            sources // blocks.shape[1], 1
        )
    if mask.graph is not None:
        if targets != sources:
            message = f"a generated graph is for as many sources as targets, here {sources} and {targets}"
            raise SpecError(Fault(message, (*path, "graph"), "Use 'density', 'blocks' or a file."))
        try:
            graph = mask.graph.make(mask.seed, targets)
        except SpecError as error:
            raise SpecError(replace(f, path=(*path, "graph", *f.path)) for f in error.faults) from None
        return _adjacency(graph, targets, sources, (*path, "graph"))
    assert mask.file is not None
    return _read(folder / mask.file, targets, sources, (*path, "file"))


def _adjacency(graph: nx.Graph, targets: int, sources: int, path: FieldPath) -> Tensor:
    """The arcs of a graph of units as a matrix; an edge without direction goes both ways."""
    matrix = torch.zeros(targets, sources, dtype=torch.bool)
    shift = 0 if targets == sources else sources  # then the targets are numbered after the sources
    most = sources + shift if shift == 0 else sources + targets
    rows, columns = [], []
    for one, other in graph.edges():
        for source, target in [(one, other)] if graph.is_directed() else [(one, other), (other, one)]:
            row, column = target - shift, source
            if max(one, other) >= most:
                message = f"the graph has a node {max(one, other)}; the units are numbered 0 to {most - 1}"
                raise SpecError(Fault(message, path))
            if 0 <= row < targets and 0 <= column < sources:
                rows.append(row)
                columns.append(column)
    matrix[rows, columns] = True
    return matrix


def _read(file: Path, targets: int, sources: int, path: FieldPath) -> Tensor:
    if other := instead_of_file(file):
        raise SpecError(Fault(f"'{file}' is {other}, expected a file", path))
    if not file.is_file():
        raise SpecError(Fault(f"there is no file '{file}'", path))
    try:
        if file.suffix in ARRAYS:
            matrix = _array(file)
        else:
            return _adjacency(_graph(file), targets, sources, path)
    except SpecError:
        raise
    except Exception as error:  # each format has its own errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SpecError(Fault(f"'{file}' cannot be read: {reason}", path)) from None
    if tuple(matrix.shape) != (targets, sources):
        message = f"the mask has shape {tuple(matrix.shape)}, the weights ({targets}, {sources})"
        raise SpecError(Fault(message, path, "Its rows are the target's units, its columns the source's."))
    if not ((matrix == 0) | (matrix == 1)).all():
        raise SpecError(Fault("a mask holds 0 and 1 only", path))
    return matrix == 1


def _array(file: Path) -> Tensor:
    if file.suffix == ".npy":
        import numpy as np

        return torch.from_numpy(np.array(np.load(file, mmap_mode="r", allow_pickle=False)))
    from safetensors.torch import load_file

    tensors = load_file(file)
    if len(tensors) != 1:
        raise ValueError(f"it holds {len(tensors)} tensors, expected one")
    return next(iter(tensors.values()))


def _graph(file: Path) -> nx.Graph:
    """The graph in a file.

    Raises:
        ValueError: It has a line that says no edge, which networkx passes over, or no edge at all.
    """
    import networkx as nx

    if file.suffix == ".graphml":
        graph = nx.read_graphml(file, node_type=int)
    else:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
        _check_lines(lines, 1 if file.suffix == ".adjlist" else 2)
        read = nx.parse_edgelist if file.suffix == ".edgelist" else nx.parse_adjlist
        extra = {"data": False} if file.suffix == ".edgelist" else {}
        graph = read(lines, nodetype=int, create_using=nx.DiGraph, **extra)
    if any(node < 0 for node in graph):
        raise ValueError("its nodes are numbered from 0")
    if not graph.number_of_edges():
        raise ValueError("it holds no edge")
    return graph


def _check_lines(lines: list[str], least: int) -> None:
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if words and (len(words) < least or not words[0].lstrip("-").isdecimal()):
            raise ValueError(f"line {number}: expected numbers of nodes, got '{line[:60]}'")
        if least == 2 and not _NO_WEIGHT.fullmatch(" ".join(words[2:])):
            raise ValueError(f"line {number}: a weight other than 1, expected two nodes, got '{line[:60]}'")
