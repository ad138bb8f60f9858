"""Checkpoints of the published Predify package: one file a node, gathered into the predictors' weights.

Its users have two forms of them: a training checkpoint, ``{"pcoderweights": {"pmodule.0.weight": ...}}``,
and the predictor's own state dict, ``{"0.weight": ...}``. Nothing else than tensors is taken from either.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pcgraph.errors import Fault, ModelError
from pcgraph.files.tensors import kind_of, type_of
from pcgraph.network import PCNetwork
from pcgraph.tracing.weight_files import read_parts

HOLDER = "pcoderweights"
PREFIX = "pmodule."
ROOT_OF_C = "C_sqrt"


@dataclass(frozen=True)
class Checkpoint:
    """What one file says of one node's predictor.

    Attributes:
        path: The file.
        tensors: The predictor's tensors, by their names in the predictor.
        reach: C of the gradient scale, where the file holds its root; else None.
    """

    path: Path
    tensors: dict[str, Tensor]
    reach: float | None


def find_checkpoints(pattern: str, count: int) -> list[Path]:
    """The checkpoint of each node, from node 1 on.

    The node's number is the one after ``pc`` or ``pcoder`` in the file's name (``pnet_pc3_010.pth`` is
    node 3), or the only number in it.

    Args:
        pattern: A glob pattern, such as ``weights/*pc*.pth``.
        count: Number of nodes.

    Raises:
        ModelError: No file matches, a node has no file or several, or a file belongs to no node.
    """
    files = sorted(Path(name) for name in glob.glob(pattern, recursive=True) if Path(name).is_file())
    if not files:
        hint = "Put the pattern in quotes, so that the shell leaves it alone."
        raise ModelError(Fault(f"no file matches '{pattern}'", hint=hint))
    faults = []
    owned: dict[int, list[Path]] = {number: [] for number in range(1, count + 1)}
    for file in files:
        numbers = _node_numbers(file.stem)
        if len(numbers) == 1 and numbers[0] in owned:
            owned[numbers[0]].append(file)
            continue
        what = f"is of node {numbers[0]}" if len(numbers) == 1 else "does not tell which node it is of"
        faults.append(Fault(f"{what}; there are nodes 1 to {count}", hint=_HINT, where=str(file)))
    for number, found in owned.items():
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            hint = "Give a pattern that matches one of them."
            faults.append(Fault(f"node {number} has {len(found)} files: {names}", hint=hint))
        elif not found and not faults:
            faults.append(Fault(f"'{pattern}' matches no file of node {number}", hint=_HINT))
    if faults:
        raise ModelError(faults)
    return [found[0] for found in owned.values()]


_HINT = "The number after 'pc' in a file's name is its node's; node 1 predicts the image."


def _node_numbers(stem: str) -> list[int]:
    """The node numbers that a file's name may mean."""
    marked = re.findall(r"pc(?:oder)?[_-]?(\d+)", stem, flags=re.IGNORECASE)
    return sorted({int(number) for number in marked or re.findall(r"\d+", stem)})


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one node's checkpoint, as any weight file is read.

    Raises:
        ModelError: The file is unreadable, would have to run code, would become far more than it is, or
            has neither of the two forms.
    """
    parts = {part.keys: dict(part.tensors) for part in read_parts(path, 0)}
    held = parts.get((HOLDER,), parts.get((), {}))
    for name, tensor in held.items():
        if kind_of(tensor) not in ("floating", "integer"):
            raise ModelError(Fault(f"'{name}' is {type_of(tensor)}, expected plain numbers", where=str(path)))
    root = held.pop(ROOT_OF_C, None)
    inner = {name.removeprefix(PREFIX): tensor for name, tensor in held.items() if name.startswith(PREFIX)}
    tensors = inner or held  # a whole PCoder: its other tensors are buffers
    if not tensors:
        found = ", ".join(f"'{'.'.join(keys)}'" for keys in list(parts)[:5] if keys)
        message = f"holds no predictor's tensors, but {found or 'others'}"
        hint = f"Expected '{HOLDER}' with names that begin with '{PREFIX}', or a predictor's state dict."
        raise ModelError(Fault(message, hint=hint, where=str(path)))
    return Checkpoint(path, tensors, _reach(root))


def _reach(root: Tensor | None) -> float | None:
    """C from its root; a count that float32 has bent by its rounding is made whole again."""
    if root is None or root.numel() != 1 or not root.item() > 0:
        return None  # the published package holds a negative number until it has counted
    square = float(root.item()) ** 2
    return float(round(square)) if abs(square - round(square)) < 1e-6 * square else float(f"{square:.7g}")


def fill(network: PCNetwork, edges: Sequence[str], checkpoints: Sequence[Checkpoint]) -> None:
    """Put the checkpoints' tensors into the predictors, in place.

    Args:
        network: The network.
        edges: The edge that each checkpoint belongs to.
        checkpoints: The checkpoints.

    Raises:
        ModelError: A checkpoint does not fit its predictor; nothing was filled then.
    """
    faults: list[Fault] = []
    matched = []
    for edge, checkpoint in zip(edges, checkpoints, strict=True):
        own = network.predictors[edge].state_dict()
        given = checkpoint.tensors
        if own.keys() != given.keys() and len(own) == len(given):
            given = dict(zip(own, given.values(), strict=True))  # the same layers, wrapped once more or less
        misfits = [
            f"{name} {_shape(given.get(name))} (expected {_shape(own.get(name))})"
            for name in dict.fromkeys([*own, *given])
            if name not in own or name not in given or own[name].shape != given[name].shape
        ]
        if misfits:
            message = f"does not fit the predictor of '{edge}': {', '.join(misfits)}"
            faults.append(Fault(message, where=str(checkpoint.path)))
        matched.append(given)
    if faults:
        raise ModelError(faults)
    for edge, given in zip(edges, matched, strict=True):
        network.predictors[edge].load_state_dict(given)


def _shape(tensor: Tensor | None) -> str:
    return "none" if tensor is None else "x".join(map(str, tensor.shape)) or "number"
