"""The study file: which wirings are compared, on what, and how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, ValidationError, model_validator

from pcgraph.errors import Fault, FieldPath, SpecError, closest
from pcgraph.files.shipped import shipped_studies
from pcgraph.spec.documents import read_document
from pcgraph.spec.dynamics import Sharing
from pcgraph.spec.faults import translate
from pcgraph.spec.model import Model
from pcgraph.spec.source import Place, Source, show
from pcgraph.spec.training import Optimizer
from pcgraph.spec.values import Count, NonNegative, refuse, spec_name
from pcgraph.study.given import Name, Seed, Seeds
from pcgraph.study.search import Range, Search

MOST_ARMS = 1000
Draws = Annotated[Count, Field(le=MOST_ARMS)]
Levels = dict[str, Annotated[list[NonNegative], Field(min_length=1)]]


class Random(Model):
    """As many feedback edges as asked for, drawn evenly among all that lead from a node to one below it."""

    edges: Count
    """How many."""
    draws: Draws = 1
    """Wirings that are drawn: an arm each, `NAME-0`, `NAME-1`, ..."""
    seed: Seed = 0
    """Of the draws."""


class Shuffle(Model):
    """The edges of another arm with their ends exchanged.

    Every node makes and receives as many feedback predictions as there.
    """

    of: str
    """That arm."""
    draws: Draws = 1
    """Wirings that are drawn: an arm each, `NAME-0`, `NAME-1`, ..."""
    seed: Seed = 0
    """Of the draws."""


class Arm(Model):
    """One wiring, or some that are drawn. A pattern, or a list, is short for `{feedback: ...}`."""

    feedback: Any = None
    """Patterns and edges, as in a spec."""
    random: Random | None = None
    """Drawn wirings."""
    shuffle: Shuffle | None = None
    """Drawn wirings with the degrees of another arm."""
    spec: dict[str, Any] = {}
    """Any other fields of a spec that are different in this arm, laid over the base."""

    @model_validator(mode="after")
    def _one(self) -> Arm:
        given = [name for name in ("feedback", "random", "shuffle") if getattr(self, name) is not None]
        if len(given) > 1:
            raise refuse(f"an arm has one of feedback, random, shuffle, got {' and '.join(given)}")
        return self


def _arm(value: Any) -> Any:
    return {"feedback": value} if isinstance(value, (str, list)) else value


class Lesions(Model):
    """Single edges taken out of an arm, all else left as it is: the weights, and the gains of the others."""

    of: str
    """The arm."""
    each: Literal["edge"] = "edge"
    """What is taken out, one at a time."""


class Grid(Model):
    """An arm with other values for some fields: all combinations."""

    arm: str
    """The arm."""
    fields: Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], Field(min_length=1)]
    """Values by field: a field of edges (`delay`, `gain`, `error`, `predictor`) means the edges that the arm
    writes out, or all of its feedback if it writes out none; any other is a path in the spec, such as
    `dynamics.feedback` or `schedule.order`."""


def _grid(value: Any) -> Any:
    if isinstance(value, dict) and "fields" not in value:
        return {"arm": value.get("arm"), "fields": {k: v for k, v in value.items() if k != "arm"}}
    return value


class Control(Model):
    """A network without feedback that learns from the images of the tuning, noise and all.

    It learns by the cross-entropy of its answers, for as many updates as the feedback of an arm gets in
    training and tuning together, rounded up to whole epochs of the tuning; batch, schedule and augmentation
    are those of the tuning, too. This is what feedback has to be better than.
    """

    learns: Literal["backbone", "denoiser"]
    """`backbone`: the plain network, all its weights. `denoiser`: a feedforward denoiser in front of it, of
    as many weights as the arm's feedback and as many multiply-adds as the arm's steps; the network stays."""
    like: str | None = None
    """That arm. Left out: the reference."""
    optimizer: Optimizer | None = None
    """Left out: that of the tuning."""


class Corruptions(Model):
    """Corruptions of ImageNet-C."""

    names: Annotated[list[str], Field(min_length=1)]
    """Their names; `benchmark` are 15 of them, `all` the 19."""
    severities: Annotated[list[Annotated[int, Field(ge=1, le=5)]], Field(min_length=1)] = [1, 2, 3, 4, 5]
    """Which."""


class Stability(Model):
    """How the stability of an arm is found, with every seed."""

    images: Count = 8
    """Clean test images that are run on with."""
    steps: Annotated[int, Field(ge=8)] = 300
    """For how many steps at most; fewer than 8 do not show where a run leads."""


class Looks(Model):
    """On how many images the states of an arm are looked at, with every seed, under every condition."""

    images: Annotated[int, Field(ge=2)] = 50
    """Test images; similarity compares them with each other."""


class Similarity(Looks):
    """The same, and how states are compared besides by linear CKA."""

    rdm: (
        Literal["cosine", "spearman", "corr", "kendall", "tau-a", "rho-a", "cosine_cov", "corr_cov"] | None
    ) = None
    """How matrices of dissimilarities between images (squared Euclidean) are compared, too, by rsatoolbox:
    needs 'pcgraph[similarity]' and three images or more. Left out: not at all."""

    @model_validator(mode="after")
    def _three(self) -> Similarity:
        if self.rdm is not None and self.images < 3:
            raise refuse("dissimilarity matrices are compared of three images or more")
        return self


class Analyses(Model):
    """What is found out of every arm besides its answers, with every seed."""

    stability: Stability | None = None
    """Whether its states come to rest, and how a step changes them there."""
    similarity: Similarity | None = None
    """How alike the states of every node are to those of the clean images at step 0: linear CKA."""
    energy: Looks | None = None
    """The energy of every error term, and its error as a share of the state, per unit."""

    @property
    def asked(self) -> dict[str, Stability | Looks]:
        """Those that are wanted, by name."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: one for name, one in found.items() if one is not None}


def _analyses(value: Any) -> Any:
    if isinstance(value, list):
        for name in value:
            if name not in Analyses.model_fields:
                raise refuse(f"there is no analysis {show(name)}", closest(str(name), Analyses.model_fields))
        return {name: {} for name in value}
    if isinstance(value, dict):
        return {name: {} if one is None else one for name, one in value.items()}
    return value


class Evaluate(Model):
    """What is measured of every arm, with the same draws of noise for all."""

    data: str | None = None
    """Images, as for `pcgraph evaluate`. Left out: those of the training."""
    noise: Levels = {}
    """Levels by kind: `gaussian`, `salt_pepper`, `blur`, `low_frequency`, `occlusion`, `low_contrast`,
    `stripes`; see the page Evaluation."""
    unseen: Levels = {}
    """The same, of kinds that nothing is tuned for: they have no say in the choice of a step, are no part of
    the mean that arms are compared by, and `contrasts` are told for their mean, too."""
    corruptions: Corruptions | None = None
    """Corruptions of ImageNet-C; needs 'pcgraph[evaluate]'."""
    limit: Count | None = None
    """So many images, chosen at random but always the same. Left out: all."""
    right: Literal["class", "agreement"] = "class"
    """What a right answer is: the image's `class`; or `agreement` with the plain network's answer to the
    clean image, which needs no classes."""
    distances: bool = False
    """Whether to measure how far states and scores are from those of the clean image, at every step."""
    steps: Count | None = None
    """Steps of the dynamics. Left out: `schedule.steps`."""
    step: Literal["last", "held_out"] | Annotated[int, Field(ge=0)] = "last"
    """The step that arms are compared at: `last`; a number; or `held_out`: for each arm and seed the step
    that is best on average over the same conditions on images held out of the training."""
    batch: Count = 64
    """Images at a time."""
    seed: Seed = 0
    """Of the noise and the choice of images."""

    @property
    def word(self) -> str:
        """What the share of right answers is called."""
        return "agreement" if self.right == "agreement" else "accuracy"


class Study(Model):
    """A whole study file."""

    study: Annotated[str, AfterValidator(spec_name)]
    """What it is called; names its folder."""
    base: str
    """The spec that all arms are made of: a file, relative to this one, or the name of a shipped spec."""
    seeds: Seeds = [0, 1, 2]
    """Repetitions: a number, or the seeds themselves. A seed draws first weights, order and noise of the
    training, the same in all arms."""
    reset: list[str] = []
    """Fields of the base that are taken out first, such as `weights` or `dynamics.nodes`."""
    share: Sharing | None = None
    """What all arms have in common, whatever their number of edges; see `dynamics.share`."""
    arms: Annotated[dict[Name, Annotated[Arm, BeforeValidator(_arm)]], Field(min_length=1)]
    """The wirings."""
    lesions: list[Lesions] | Lesions | None = None
    """Arms of which single edges are taken out."""
    grid: (
        Annotated[list[Annotated[Grid, BeforeValidator(_grid)]], Field(min_length=1)]
        | Annotated[Grid, BeforeValidator(_grid)]
        | None
    ) = None
    """Arms with other values."""
    controls: dict[Name, Control] = {}
    """Networks without feedback that learn from the same noisy images; compared as arms are."""
    train: dict[str, Any] | None = None
    """What the feedback of every arm learns before anything else: fields of a spec's `train`, laid over the
    base's. Left out: nothing is trained. With `edges: union` (the default for task `feedback`) one training
    of all edges serves all arms; with `edges: own` each arm is trained alone."""
    tune: dict[str, Any] | None = None
    """What is tuned in every arm, after the training: fields of a spec's `tune`. Left out: nothing."""
    search: Search | None = None
    """Wirings that are searched for; the best becomes an arm. Left out: none."""
    evaluate: Evaluate = Evaluate()
    """What is measured."""
    analyses: Annotated[Analyses, BeforeValidator(_analyses)] = Analyses()
    """What else is found out of every arm: a list of names, or settings by name."""
    reference: str | None = None
    """The arm that the others are compared with. Left out: the first."""
    contrasts: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = []
    """Further pairs of arms that are compared: `[A, B]` is A less B."""

    _source: Source = PrivateAttr(default_factory=Source)

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from."""
        return self._source.folder

    def written(self, path: FieldPath, above: FieldPath) -> bool:
        """Whether something of a path stands in the file that lies below ``above``."""
        return any(path[:length] in self._source.places for length in range(len(above) + 1, len(path) + 1))

    def located(self, fault: Fault) -> Fault:
        """A fault with its place in the file."""
        return fault if fault.where else replace(fault, where=self._source.locate(fault.path))

    def in_order(self, faults: Iterable[Fault]) -> list[Fault]:
        """Faults in the order of their places in the file."""
        end = Place("", 0, 0)
        return sorted(faults, key=lambda fault: self._source.place(fault.path) or end)

    def with_arm(self, name: str, arm: Arm) -> Study:
        """The same study with one more arm."""
        return self.model_copy(update={"arms": {**self.arms, name: arm}})


def load_study(path: str | Path) -> Study:
    """Read and check a study file.

    Args:
        path: A ``.yaml``, ``.yml``, ``.json`` or ``.toml`` file, or the name of a study that pcgraph ships,
            such as ``which_feedback``.

    Raises:
        SpecError: It cannot be read, or is not valid; every fault with its place.
    """
    file = shipped_studies().get(str(path), Path(path))
    document = read_document(file)
    source = Source(document.places, file.parent)
    try:
        study = Study.model_validate(document.data)
    except ValidationError as error:
        faults = [_about_study(fault) for fault in translate(error, document.data)]
        end = Place("", 0, 0)
        faults.sort(key=lambda fault: source.place(fault.path) or end)
        raise SpecError(replace(fault, where=source.locate(fault.path)) for fault in faults) from None
    study._source = source
    faults = list(_names(study))
    if faults:
        raise SpecError(study.located(fault) for fault in faults)
    return study


def _about_study(fault: Fault) -> Fault:
    """Hints about unknown fields that name those of a study, not of a spec."""
    if not fault.message.startswith("unknown field"):
        return fault
    model: type[Model] = Study
    homes: Mapping[str, type[Model]] = {
        "share": Sharing,
        "lesions": Lesions,
        "grid": Grid,
        "search": Search,
        "each": Range,
        "fields": Range,
        "evaluate": Evaluate,
        "corruptions": Corruptions,
        "analyses": Analyses,
        "stability": Stability,
        "similarity": Similarity,
        "energy": Looks,
        "random": Random,
        "shuffle": Shuffle,
        "controls": Control,
        "optimizer": Optimizer,
    }
    for part in fault.path[:-1]:
        model = homes.get(str(part), Arm if model is Study else model)
    return replace(fault, hint=closest(str(fault.path[-1]), model.model_fields))


def _names(study: Study) -> Any:
    """Arms are named that there are."""
    known = [*study.arms, *([study.search.arm] if study.search else [])]
    asked: list[tuple[str, tuple[Any, ...]]] = []
    for name, arm in study.arms.items():
        if arm.shuffle is not None:
            asked.append((arm.shuffle.of, ("arms", name, "shuffle", "of")))
    for field in ("lesions", "grid"):
        given = getattr(study, field)
        for index, one in enumerate(given if isinstance(given, list) else [given] if given else []):
            path = (field, index) if isinstance(given, list) else (field,)
            key = "of" if field == "lesions" else "arm"
            asked.append((getattr(one, key), (*path, key)))
    for index, (first, second) in enumerate(study.contrasts):
        if first == second:
            yield Fault(f"'{first}' is compared with itself", ("contrasts", index), "Name two arms.")
        elif [first, second] in study.contrasts[:index]:
            yield Fault(f"'{first}' less '{second}' is there twice", ("contrasts", index))
    for name, path in asked:
        if name not in known:
            yield Fault(f"there is no arm '{name}'", path, closest(name, known))
        elif name in study.arms and _is_drawn(study.arms[name]):
            yield Fault(f"'{name}' is drawn, and not one wiring", path, "Name an arm with 'feedback'.")


def _is_drawn(arm: Arm) -> bool:
    return arm.random is not None or arm.shuffle is not None
