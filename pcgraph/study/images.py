"""The images of a study: which are learned from, which are measured, and that these are not the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pcgraph.datasets import ImageData, data_digest, image_keys, open_data, preprocess_for
from pcgraph.datasets.classes import classes_of
from pcgraph.datasets.parts import Split
from pcgraph.errors import Fault, FieldPath, PCGraphError, SpecError
from pcgraph.files.seals import digest, file_digest
from pcgraph.spec import Spec
from pcgraph.study.arms import Arms
from pcgraph.study.file import Study


class StudyImages:
    """The images that a study trains with (``train``), tunes with (``tune``) and measures (``test``).

    Args:
        study: The file.
        arms: Its wirings, which all take the same images.

    Raises:
        SpecError: Nobody says which images, they cannot be had, have no classes, or those that are measured
            are learned from, too; at its place in the study file.
    """

    def __init__(self, study: Study, arms: Arms) -> None:
        self.study, self.arms = study, arms
        self._opened: dict[tuple[str, Split], ImageData] = {}
        self._digests: dict[tuple[str, Split], str] = {}
        self._beside: dict[str, dict[str, str]] = {}
        learned = [one for one in ("train", "tune") if getattr(study, one) is not None]
        if not learned and (study.evaluate.step == "held_out" or study.search is not None):
            learned = ["train"]
        measured = self._data("test")
        if not measured.labelled and study.evaluate.right == "class":
            hint = "Give class folders, data with classes, or write 'evaluate: {right: agreement}'."
            raise self._refused(f"'{measured.name}' has no classes to be measured by", "test", hint)
        if study.evaluate.limit is not None and study.evaluate.limit > len(measured):
            fault = Fault(f"{study.evaluate.limit} of {len(measured)} images", ("evaluate", "limit"))
            raise SpecError(study.located(fault))
        tested = set(image_keys(measured)) if learned else set()
        for section in learned:
            if common := tested.intersection(image_keys(self._data(section))):
                message = f"'{section}' learns from {len(common)} of the images that are measured"
                raise self._refused(message, "test", "Write 'evaluate: {data: ...}' with others.")

    def of(self, section: str) -> dict[str, str]:
        """What a cell's content says of the images of a section: reference and digest."""
        reference, part = self._reference(section), _part(section)
        if (reference, part) not in self._digests:
            classes = classes_of(self.arms.wirings[0].spec)
            own = digest([data_digest(self._data(section)), classes and list(classes)])
            self._digests[reference, part] = own
        return {"data": reference, "digest": self._digests[reference, part]}

    def beside(self, spec: Spec) -> dict[str, Any]:
        """What a cell's content says of files that a spec names without a digest; see `files_beside`."""
        key = digest(spec.dump())
        if key not in self._beside:
            self._beside[key] = files_beside(spec)
        return {"files": self._beside[key]} if self._beside[key] else {}

    def count(self, section: str) -> int:
        """How many images a section has."""
        return len(self._data(section))

    def _reference(self, section: str) -> str:
        """The images that the file means; else the base's."""
        return next(self._given(section))[0]

    def _given(self, section: str) -> Iterator[tuple[str, FieldPath]]:
        """References and where they stand, what counts most first."""
        own, spec = self.study, self.arms.wirings[0].spec
        others = ("tune", "train") if section == "tune" else ("train", "tune")
        evaluated = own.evaluate.data
        if section == "test" and evaluated:
            yield evaluated, ("evaluate", "data")
        for other in others:
            if isinstance(found := (getattr(own, other) or {}).get("data"), str):
                yield found, (other, "data")
        for other in others:
            settings = getattr(spec, other)
            if settings is not None and settings.data is not None:
                yield settings.data, ("base",)
        if evaluated:
            yield evaluated, ("evaluate", "data")
        field = "evaluate" if section == "test" else section
        what = "which images" if section == "test" else f"which images to {section} on"
        fault = Fault(f"nobody says {what}", (field, "data"), f"Write '{field}: {{data: ...}}'.")
        raise SpecError(self.study.located(fault))

    def _data(self, section: str) -> ImageData:
        (reference, path), part = next(self._given(section)), _part(section)
        spec = self.arms.wirings[0].spec
        if (reference, part) not in self._opened:
            try:
                self._opened[reference, part] = open_data(
                    reference,
                    part,
                    shape=self.arms.graph.nodes[self.arms.graph.receiver].shape,
                    preprocess=preprocess_for(spec.backbone),
                    classes=classes_of(spec),
                )
            except PCGraphError as error:
                faults = [replace(fault, path=path, where="") for fault in map(_named, error.faults)]
                raise SpecError(self.study.located(fault) for fault in faults) from None
        return self._opened[reference, part]

    def _refused(self, message: str, section: str, hint: str) -> SpecError:
        return SpecError(self.study.located(Fault(message, next(self._given(section))[1], hint)))


def _named(fault: Fault) -> Fault:
    """A fault that tells itself of what it is."""
    return replace(fault, message=f"{fault.where}: {fault.message}") if fault.where else fault


def _part(section: str) -> Split:
    return "test" if section == "test" else "train"


def files_beside(spec: Spec) -> dict[str, str]:
    """SHA-256 of the files that a spec names without one, by what names them: masks, and Python modules."""
    found = {}
    for text in _texts(spec.dump()):
        if text.startswith("python:"):
            module = find_spec(text.split(":")[1])
            path = Path(module.origin) if module and module.origin else None
        else:
            path = None
        if path is not None and path.is_file():
            found[text] = file_digest(path)
    for edge in (*spec.edges, *spec.feedback):
        mask = getattr(edge, "mask", None)
        if mask is not None and mask.file is not None:
            found[mask.file] = file_digest(spec.folder / mask.file)
    return found


def _texts(value: Any) -> Iterator[str]:
    """All texts in plain values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)
