"""What learns in a study, as cells; one training of all edges, where it serves all arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pcgraph.errors import Fault, FieldPath, SpecError
from pcgraph.files.seals import digest
from pcgraph.spec import Edge, Spec, Train, Tune, parse_spec
from pcgraph.spec.source import show
from pcgraph.study.arms import Wiring
from pcgraph.study.cells import CHANNELS_LAST, Cell, key_of
from pcgraph.study.controls import Controls
from pcgraph.study.file import Study
from pcgraph.study.images import StudyImages
from pcgraph.study.layouts import Layout, usual
from pcgraph.study.values import edge_name

TRAINED = ("source", "target", "predictor", "mask")
"""Fields of an edge on which its training by reconstruction depends."""
UNASKED = ("feedback", "schedule", "start", "tune", "weights")
"""Fields of a spec on which that training does not depend: it is of the feedforward pass."""


class Trainings:
    """The cells that make the networks of a study.

    Args:
        study: The file.
        wirings: Those whose edges are trained together.
        images: Its images.
        controls: What learns instead of feedback.
        layout: How the maps of a cell's network lie in memory.

    Raises:
        SpecError: The file asks for one training, and edges do not learn apart from each other.
    """

    def __init__(
        self,
        study: Study,
        wirings: Sequence[Wiring],
        images: StudyImages,
        controls: Controls,
        layout: Layout = usual,
    ) -> None:
        self.study, self.wirings, self._images, self._controls = study, wirings, images, controls
        self._layout = layout
        self._banks = self._union() if self._shared() else {}

    def made(self, arm: Wiring, seed: int) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
        """The cells that made a network, and what they are to those that look at it."""
        if arm.control is not None:
            return (self._control(arm, seed),), ()
        needs = self._tune(arm, seed, self._train(arm, seed))
        return needs, self._known(arm, seed) if self.study.tune is None else ()

    # ---- one training for all ------------------------------------------------------------------

    def _shared(self) -> bool:
        """Whether one training serves all arms.

        Raises:
            SpecError: The file asks for it, and the arms' edges do not learn apart from each other.
        """
        if self.study.train is None:
            return False
        asked = self.study.train.get("edges")
        if asked not in (None, "union", "own"):
            raise self._refused(f"expected 'union' or 'own', got {show(asked)}", ("train", "edges"))
        settings = [arm.spec.train or Train() for arm in self.wirings]
        reason = next(filter(None, map(self._tied, settings)), "")
        if asked == "union" and reason:
            hint = "Write 'edges: own': each arm is then trained by itself."
            raise self._refused(f"one training cannot serve all arms: {reason}", ("train", "edges"), hint)
        return asked != "own" and not reason

    def _tied(self, train: Train) -> str:
        """Why edges do not learn each by itself; empty where they do."""
        edges = [edge for arm in self.wirings for edge in arm.edges]
        task = train.task_under(self.wirings[0].spec.dynamics.rule)
        if task != "feedback" and "backbone" in (train.learns or ["backbone"]):
            message = f"task '{task}' would train the backbone, which is the same in all arms"
            raise self._refused(message, ("train", "task"), "Write 'learns: [predictors]'.")
        if task != "feedback":
            return f"task '{task}' trains whole networks"
        if train.clip is not None:
            return "'clip' limits the gradient of all edges together"
        if any(edge.bundle is not None for edge in edges):
            return "edges of a bundle have one error"
        if any("Dropout" in str(edge.predictor) for edge in edges):
            return "dropout draws from one source for all edges"
        return ""

    def _union(self) -> dict[str, list[dict[str, Edge]]]:
        """All edges of all arms by ground, in sets that have no two of one name; an arm in one."""
        found: dict[str, list[dict[str, Edge]]] = {}
        for arm in self.wirings:
            banks, edges = found.setdefault(_ground(arm.spec), []), _bank(arm)
            fitting = (
                one for one in banks if all(one.get(name, edge) == edge for name, edge in edges.items())
            )
            bank = next(fitting, None)
            if bank is None:
                banks.append(bank := {})
            bank.update(edges)
        return found

    def _bank_of(self, arm: Wiring) -> dict[str, Edge]:
        """The set that has an arm's edges; these alone, where a search proposes what no set has."""
        banks, edges = self._banks.get(_ground(arm.spec), []), _bank(arm)
        fitting = (one for one in banks if all(one.get(name) == edge for name, edge in edges.items()))
        return next(fitting, edges)

    def _bank_spec(self, spec: Spec, bank: Mapping[str, Edge]) -> Spec:
        data = spec.dump()
        for name in UNASKED:
            data.pop(name, None)
        data["feedback"] = [edge.model_dump(mode="json", exclude_defaults=True) for edge in bank.values()]
        if spec.dynamics.rule == "predify":
            data["dynamics"] = {"allow_negative_memory": True}  # which the training does not ask for
        return parse_spec(data, self.study.folder)

    # ---- cells ---------------------------------------------------------------------------------

    def _train(self, arm: Wiring, seed: int) -> tuple[Cell, ...]:
        if self.study.train is None or not arm.edges:
            return ()
        spec = self._bank_spec(arm.spec, self._bank_of(arm)) if self._banks else arm.spec
        content = {"spec": content_of(spec, "train"), "seed": seed, **self._images.of("train")}
        return (self._cell("train", {**content, **self._images.beside(spec)}),)

    def _cell(
        self, kind: str, content: dict[str, Any], needs: tuple[Cell, ...] = (), known: tuple[str, ...] = ()
    ) -> Cell:
        return Cell(kind, {**content, **self._layout(kind, content)}, needs, known)

    def _known(self, arm: Wiring, seed: int) -> tuple[str, ...]:
        """The training of each edge of an arm, whatever other edges were trained with it."""
        if not self._banks:
            return ()
        trained = [cell.content for cell in self._train(arm, seed)]
        shared = {
            **{name: value for one in trained for name, value in one.items() if name in CHANNELS_LAST},
            "ground": _ground(arm.spec),
            "seed": seed,
            **self._images.of("train"),
            **self._images.beside(arm.spec),
        }
        edges = [_learned(edge).model_dump(mode="json") for edge in arm.edges]
        return tuple(key_of("train", {**shared, "edge": edge}, []) for edge in edges)

    def _tune(self, arm: Wiring, seed: int, needs: tuple[Cell, ...]) -> tuple[Cell, ...]:
        if self.study.tune is None or not arm.edges:
            return needs
        content = {"spec": content_of(arm.spec, "tune"), "seed": seed, **self._images.of("tune")}
        return (
            self._cell("tune", {**content, **self._images.beside(arm.spec)}, needs, self._known(arm, seed)),
        )

    def _control(self, arm: Wiring, seed: int) -> Cell:
        spec = arm.spec.model_copy(update={"weights": None})
        whole = content_of(spec)
        ground = {name: one for name, one in whole.items() if name in ("name", "backbone", "nodes")}
        content = {"spec": ground, "seed": seed, **self._images.of("tune")}
        return self._cell("control", {**content, **self._controls.content(arm), **self._images.beside(spec)})

    def _refused(self, message: str, path: FieldPath, hint: str = "") -> SpecError:
        return SpecError(self.study.located(Fault(message, path, hint)))


def learning(study: Study, spec: Spec) -> list[Train | Tune]:
    """What learns from images; where nothing does, the split of a training that might."""
    train = None if study.train is None else spec.train or Train()
    tune = None if study.tune is None else spec.tune or Tune()
    return [one for one in (train, tune) if one is not None] or [Train()]


def content_of(spec: Spec, *sections: str) -> dict[str, Any]:
    """A spec as plain values, without its name and the sections that are not asked for."""
    left_out = {"extends", "train", "tune"} - set(sections)
    data = {name: value for name, value in spec.dump().items() if name not in left_out}
    return {**data, "name": "cell"}


def _bank(arm: Wiring) -> dict[str, Edge]:
    """What the edges of an arm learn, by their names."""
    return {edge_name(edge): _learned(edge) for edge in arm.edges}


def _learned(edge: Edge) -> Edge:
    """An edge with what its training depends on, and nothing else."""
    return Edge(**edge.model_dump(include=set(TRAINED)))


def _ground(spec: Spec) -> str:
    """All that the training of an edge depends on besides the edge, as a digest."""
    unasked = {*UNASKED, *(["dynamics"] if spec.dynamics.rule == "predify" else [])}
    return digest({name: value for name, value in content_of(spec, "train").items() if name not in unasked})
