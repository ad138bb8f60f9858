"""Configs of the published Predify package (TOML) to specs.

A config names the places of a chain of states from the input upwards: each predicts the one below it,
the first the input. Its predictors are Python expressions; they are taken apart, never evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pcgraph.errors import Fault, FieldPath, SpecError, closest
from pcgraph.importers.predify_layers import PredictorTextError, parse_predictor
from pcgraph.spec.documents import read_text
from pcgraph.spec.load import validate
from pcgraph.spec.schema import INPUT, Spec
from pcgraph.spec.source import Document, Place, Source, show
from pcgraph.spec.toml_source import parse_toml

FIELDS = ("name", "imports", "input_size", "gradient_scaling", "shared_hyperparameters", "pcoders")
NODE_FIELDS = ("module", "predictor", "hyperparameters")
GAINS = {"feedforward": 0.3, "feedback": 0.3, "pc": 0.01}
"""The config's names of beta, lambda and alpha, and the package's defaults."""


def read_predify(path: str | Path, model: str, weights: str | None = None) -> Spec:
    """Read a config of the published Predify package.

    Args:
        path: The TOML file.
        model: The backbone, as `backbone.model` of a spec; a config does not name it.
        weights: The backbone's weights, as `backbone.weights` of a spec.

    Returns:
        A spec with nodes ``e1``, ``e2``, ..., rule ``predify`` and order ``sweep``. `Spec.locate`
        leads to the places in the config.

    Raises:
        SpecError: The file cannot be read or is no such config; lists every fault with its place.
    """
    path = Path(path)
    text = read_text(path)
    document = parse_toml(text, str(path))
    config = _Config(document, text)
    spec = config.spec(model, weights)
    if config.faults:
        raise SpecError(sorted(config.faults, key=lambda fault: config.order(fault.path)))
    return validate(spec, path.parent)


class _Config:
    """One config while it is read: what it says, and what is wrong with it."""

    def __init__(self, document: Document, text: str) -> None:
        self.data = document.data
        self.source = Source(document.places)
        self.lines = text.splitlines()
        self.faults: list[Fault] = []

    def fault(self, message: str, path: FieldPath, hint: str = "") -> None:
        self.faults.append(Fault(message, path, hint, self.source.locate(path)))

    def order(self, path: FieldPath) -> Place:
        return self.source.place(path) or Place("", 0, 0)

    def spec(self, model: str, weights: str | None) -> Document:
        """The spec's plain values, with the places that they come from."""
        self._unknown_fields(self.data, FIELDS, ())
        coders = self._coders()
        gains = [self._gains(coder, index) for index, coder in enumerate(coders)]
        if self._flag("shared_hyperparameters"):
            gains = gains[:1]
        names = [f"e{number}" for number in range(1, len(coders) + 1)]
        modules = [self._module(coder, index) for index, coder in enumerate(coders)]
        gradient = "normalized" if self._flag("gradient_scaling") else "mean"
        backbone = {"model": model, "weights": weights, "input": self._input_size()}
        dynamics: dict[str, Any] = {"rule": "predify", "gradient": gradient}
        if all(own == gains[0] for own in gains):
            dynamics.update(*gains[:1])
        else:
            dynamics["nodes"] = dict(zip(names, gains, strict=True))
        edges: list[dict[str, Any]] = []
        for index, (coder, source, target) in enumerate(zip(coders, names, [INPUT, *names], strict=False)):
            edges.append({"source": source, "target": target})
            if "predictor" in coder:
                edges[-1]["predictor"] = self._predictor(coder["predictor"], index)
        data = {
            "name": self.data.get("name", "network"),
            "backbone": backbone,
            "nodes": dict(zip(names, modules, strict=True)),
            "feedback": edges,
            "dynamics": dynamics,
            "schedule": {"order": "sweep"},
        }
        return Document(data, self._places(names))

    def _places(self, names: list[str]) -> dict[FieldPath, Place]:
        """Where in the config each field of the spec comes from."""
        origins: dict[FieldPath, FieldPath] = {
            (): (),
            ("name",): ("name",),
            ("backbone", "input"): ("input_size",),
            ("dynamics",): ("pcoders", 0, "hyperparameters"),
            ("dynamics", "gradient"): ("gradient_scaling",),
        }
        for index, name in enumerate(names):
            origins["nodes", name] = ("pcoders", index, "module")
            origins["feedback", index] = ("pcoders", index, "predictor")
            origins["dynamics", "nodes", name] = ("pcoders", index, "hyperparameters")
        found = {path: self.source.place(origin) for path, origin in origins.items()}
        return {path: place for path, place in found.items() if place is not None}

    def _unknown_fields(self, data: dict[str, Any], known: Iterable[str], path: FieldPath) -> None:
        for name in data:
            if name not in known:
                self.fault(f"unknown field '{name}'", (*path, name), closest(name, known))

    def _flag(self, name: str) -> bool:
        value = self.data.get(name, False)
        if not isinstance(value, bool):
            self.fault(f"expected true or false, got {show(value)}", (name,))
        return value is True

    def _input_size(self) -> Any:
        if "input_size" not in self.data:
            self.fault("missing", ("input_size",), "Add 'input_size = [channels, height, width]'.")
        return self.data.get("input_size", [1])

    def _coders(self) -> list[dict[str, Any]]:
        coders = self.data.get("pcoders")
        if coders is None:
            self.fault("missing", ("pcoders",), "Add a table '[[pcoders]]' for each state.")
        elif not isinstance(coders, list) or not coders:
            message = f"expected tables, got {show(coders)}"
            self.fault(message, ("pcoders",), "Add a table '[[pcoders]]' for each state.")
        else:
            for index, coder in enumerate(coders):
                if isinstance(coder, dict):
                    self._unknown_fields(coder, NODE_FIELDS, ("pcoders", index))
                else:
                    self.fault(f"expected a table, got {show(coder)}", ("pcoders", index))
            return [coder if isinstance(coder, dict) else {"module": "unknown"} for coder in coders]
        return []

    def _gains(self, coder: dict[str, Any], index: int) -> dict[str, Any]:
        path: FieldPath = ("pcoders", index, "hyperparameters")
        given = coder.get("hyperparameters", {})
        if not isinstance(given, dict):
            self.fault(
                f"expected a table, got {show(given)}",
                path,
                "For example {feedforward=0.4, feedback=0.1, pc=0.01}.",
            )
            given = {}
        self._unknown_fields(given, GAINS, path)
        feedforward, feedback, error = ({**GAINS, **given}[name] for name in GAINS)
        return {"feedforward": feedforward, "feedback": feedback, "error": error}

    def _module(self, coder: dict[str, Any], index: int) -> str:
        """``features[1].conv`` as the qualified name ``features.1.conv``."""
        path: FieldPath = ("pcoders", index, "module")
        module = coder.get("module")
        if module is None:
            self.fault("missing", path, "Name the place in the model, for example 'features[3]'.")
        elif not isinstance(module, str):
            self.fault(f"expected text, got {show(module)}", path)
        elif not re.fullmatch(r"[A-Za-z_]\w*(\.\w+|\[\d+\])*", module, flags=re.ASCII):
            hint = "Write attributes and indices from 0 on, for example 'layer1[0].conv1'."
            self.fault(f"'{module}' is no place in a model", path, hint)
        else:
            return re.sub(r"\[(\d+)\]", r".\1", module)
        return f"unknown.{index}"

    def _predictor(self, text: Any, index: int) -> Any:
        path: FieldPath = ("pcoders", index, "predictor")
        if not isinstance(text, str):
            self.fault(f"expected text, got {show(text)}", path)
            return "auto"
        try:
            return parse_predictor(text)
        except PredictorTextError as fault:
            place = self.order(path)
            line = self.lines[place.line - 1] if place.line <= len(self.lines) else ""
            start = line.find(text)
            where = Place(place.file, place.line, start + fault.column) if start >= 0 else place
            message = (
                fault.message if start >= 0 else f"{fault.message} (character {fault.column} of the text)"
            )
            self.faults.append(Fault(message, path, fault.hint, str(where)))
            return "auto"
