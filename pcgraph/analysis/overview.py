"""All analyses of some networks, as rows of plain values."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from typing import Any

from pcgraph.analysis.cost import step_cost, step_memory
from pcgraph.analysis.edges import gain_gradients, lesion_effects
from pcgraph.analysis.inputs import Inputs
from pcgraph.analysis.per_unit import RECORDED, per_unit
from pcgraph.analysis.settling import stability
from pcgraph.analysis.similarity import Geometry, cka_matrix, compare_rdms, geometries
from pcgraph.errors import DivergenceError, Fault, InputError, closest
from pcgraph.network import PCNetwork
from pcgraph.scheduler import Scheduler

ANALYSES = ("stability", "cost", "units", "lesions", "gains", "similarity")
"""In the order in which they are made and told."""
FIRST = 16
"""Images that stability and gradients are found of: the first."""
Row = Mapping[str, Any]


@dataclass
class Analysed:
    """What was found out.

    Attributes:
        rows: By table: ``stability``, ``modes``, ``cost``, ``units``, ``lesions``, ``gains``, ``similarity``.
            All rows of a table have the same keys.
        notes: What could not be found out, and why.
    """

    rows: dict[str, list[Row]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, table: str, about: Row, found: Iterator[Row]) -> None:
        """Add rows, each with what they are about."""
        self.rows.setdefault(table, []).extend({**about, **row} for row in found)


def analyse(
    networks: Mapping[str, PCNetwork],
    conditions: Mapping[str, Mapping[str, Inputs]],
    images: Sequence[str],
    analyses: Sequence[str] = ANALYSES,
    *,
    steps: int = 300,
    tolerance: float = 1e-3,
    modes: int = 3,
    advance: Callable[[int], None] = lambda done: None,
) -> Analysed:
    """Analyse networks on the same images, under one or more conditions.

    Args:
        networks: By their names.
        conditions: By name, what each network is run on; every network has the same images.
        images: Their names.
        analyses: Which of `ANALYSES`.
        steps: Steps after which it is judged whether states come to rest; see `stability`.
        tolerance: The change of a state that counts as none; see `long_run`.
        modes: How many leading modes are told.
        advance: Is told of every network and condition that is done.

    Raises:
        InputError: An analysis that there is not, inputs that do not fit, or a package that is not installed.
    """
    check_names(analyses)
    found, shapes = Analysed(), []
    for (name, network), condition in itertools.product(networks.items(), conditions):
        about, inputs = {"network": name, "condition": condition}, conditions[condition][name]
        if "stability" in analyses:
            _stability(found, about, network, inputs, images, steps, tolerance, modes)
        if "cost" in analyses and condition == next(iter(conditions)):
            found.add("cost", {"network": name}, iter([_cost(network)]))
        if "units" in analyses:
            found.add("units", about, _units(network, inputs))
        if "lesions" in analyses:
            found.add("lesions", about, _lesions(network, inputs))
        if "gains" in analyses:
            found.add("gains", about, map(asdict, gain_gradients(network, _first(inputs))))
        if "similarity" in analyses and len(images) > 1:
            try:
                shapes += list(geometries(Scheduler(network), inputs, name, condition))
            except DivergenceError as error:
                found.notes.append(f"{name}, {condition}: no similarity: {error.faults[0].message}")
        advance(1)
    if "similarity" in analyses:
        _similarity(found, shapes, len(images))
    return found


def check_names(analyses: Sequence[str]) -> None:
    """Make sure that there are such analyses.

    Raises:
        InputError: There is one that is none of `ANALYSES`.
    """
    for name in analyses:
        if name not in ANALYSES:
            raise InputError(Fault(f"there is no analysis '{name}'", hint=closest(name, ANALYSES)))


def _first(inputs: Inputs) -> Inputs:
    labels = None if inputs.labels is None else inputs.labels[:FIRST]
    return replace(inputs, images=inputs.images[:FIRST], labels=labels)


def _stability(
    found: Analysed,
    about: Row,
    network: PCNetwork,
    inputs: Inputs,
    images: Sequence[str],
    steps: int,
    tolerance: float,
    modes: int,
) -> None:
    scheduler, few = Scheduler(network), _first(inputs)
    told = stability(scheduler, few.start(scheduler), steps, modes=modes, tolerance=tolerance, seed=few.seed)
    runs = ({"image": images[place], **asdict(one)} for place, one in enumerate(told.runs))
    found.add("stability", about, runs)
    if told.unknown:
        found.notes.append(f"{about['network']}, {about['condition']}: no modes: {told.unknown}")
    leading: Iterator[Row] = (
        {
            "rank": rank,
            "real": mode.eigenvalue.real,
            "imaginary": mode.eigenvalue.imag,
            "modulus": mode.modulus,
            "period": mode.period,
            "image": images[mode.image],
            "shares": _listed(mode.shares),
        }
        for rank, mode in enumerate(told.modes, 1)
    )
    found.add("modes", about, leading)


def _cost(network: PCNetwork) -> Row:
    weights = {"predictors": network.predictors, "backbone": network.drive}
    counts = {
        name: 0 if part is None else sum(p.numel() for p in part.parameters())
        for name, part in weights.items()
    }
    return {
        "predictor_weights": counts["predictors"],
        "backbone_weights": counts["backbone"],
        "multiply_adds": step_cost(copy.deepcopy(network)),
        "memory": step_memory(copy.deepcopy(network)),
    }


def _units(network: PCNetwork, inputs: Inputs) -> Iterator[Row]:
    run = inputs.run(Scheduler(network), record=RECORDED)
    return ({**asdict(one), "share": one.share} for one in per_unit(run, network.graph))


def _lesions(network: PCNetwork, inputs: Inputs) -> Iterator[Row]:
    for one in lesion_effects(network, inputs):
        yield {**asdict(one), "moved": _listed(one.moved)}


def _similarity(found: Analysed, shapes: Sequence[Geometry], images: int) -> None:
    """CKA of all pairs; and the correlation of their dissimilarity matrices, where there is rsatoolbox."""
    if not shapes:
        found.notes.append("no similarity: it compares images, give two or more")
        return
    cka, rdm = cka_matrix([one.gram for one in shapes]), None
    if find_spec("rsatoolbox") is None:
        found.notes.append("no dissimilarity matrices: pip install 'pcgraph[similarity]'")
    elif images > 2:
        rdm = compare_rdms(shapes)
    keys = ("network", "condition", "node", "step")
    pairs = itertools.combinations(range(len(shapes)), 2)
    rows: Iterator[Row] = (
        {
            **{key: getattr(shapes[one], key) for key in keys},
            **{f"other_{key}": getattr(shapes[other], key) for key in keys},
            "cka": float(cka[one, other]),
            "rdm_correlation": float("nan") if rdm is None else float(rdm[one, other]),
        }
        for one, other in pairs
    )
    found.add("similarity", {}, rows)


def _listed(shares: Mapping[str, float]) -> str:
    return " ".join(f"{name}={share:.4g}" for name, share in shares.items())
