"""What a cell does: a function of its content and of the files of the cells that it needs."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from pcgraph.analysis.lesion import lesioned
from pcgraph.building.network import build, measured
from pcgraph.datasets import ImageData, choice, image_keys, open_data, preprocess_for, split, subset
from pcgraph.datasets.classes import classes_of
from pcgraph.datasets.parts import Split
from pcgraph.dynamics.gains import Predify
from pcgraph.errors import DivergenceError, Fault, InputError, LossError
from pcgraph.learning.dynamics import DynamicsTask, with_noise
from pcgraph.learning.saving import BACKBONE, PREDICTORS
from pcgraph.learning.tasks import make_task
from pcgraph.network import PCNetwork
from pcgraph.simulation.channels_last import lay_out
from pcgraph.spec import Fitting, Spec, Train, TuningNoise, parse_spec
from pcgraph.spec.wiring import with_gains
from pcgraph.study.analyses import energy_of, similarity_of, stability_of
from pcgraph.study.cells import CHANNELS_LAST
from pcgraph.study.denoiser import Size, learns_alone, without_feedback
from pcgraph.study.measuring import followed
from pcgraph.training import Task, fit
from pcgraph.training.threads import threads

Files = dict[str, bytes]
"""What a cell leaves, by file name."""
_ONE_AT_A_TIME = threading.Lock()
"""Held while a cell is computed: all threads of a process share torch's generator and number of threads."""
LOSSES, FAILED, TUNED, MEASURED = "losses.csv", "failed.json", "dynamics.json", "measured.safetensors"
GAINS, STABILITY = "gains.json", "stability.json"
SIMILARITY, ENERGY = "similarity.json", "energy.json"


@dataclass(frozen=True)
class Learning:
    """What a cell learns.

    Attributes:
        task: What learns.
        data: From which images.
        held: Those that are measured after every epoch.
        settings: How.
        weights: The file of weights that it leaves.
    """

    task: Task
    data: ImageData
    held: ImageData
    settings: Fitting
    weights: str


@dataclass
class Worker:
    """Does the work of cells, one after the other; what two in a row share is made once.

    Args:
        trust: Whether ``python:`` references may be imported.
        device: Where to compute.
    """

    trust: bool = False
    device: str = "cpu"
    _networks: dict[str, PCNetwork] = field(default_factory=dict)
    _data: dict[tuple[str, ...], ImageData] = field(default_factory=dict)

    def __call__(self, kind: str, content: Mapping[str, Any], needs: Sequence[Files]) -> Files:
        """The files that a cell leaves.

        A state or loss that is not finite is a result: it is written to ``failed.json``, and so it is for all
        cells that start from there.

        Raises:
            PCGraphError: Anything else that does not fit.
        """
        for files in needs:
            if FAILED in files:
                return {FAILED: files[FAILED]}
        with _ONE_AT_A_TIME, threads(1):  # sums are rounded alike wherever a cell runs
            try:
                return self._kinds[kind](content, needs)
            except (DivergenceError, LossError) as error:
                return {FAILED: _json({"during": kind, "message": str(error)})}

    @property
    def _kinds(self) -> dict[str, Callable[[Mapping[str, Any], Sequence[Files]], Files]]:
        return {
            **{kind: partial(self._learn, kind) for kind in self._tasks},
            "measure": self._measure,
            "stability": partial(self._analyse, stability_of, STABILITY),
            "similarity": partial(self._analyse, similarity_of, SIMILARITY),
            "energy": partial(self._analyse, energy_of, ENERGY),
        }

    def learning(self, kind: str, content: Mapping[str, Any], needs: Sequence[Files]) -> Learning:
        """What a cell of kind ``train``, ``tune`` or ``control`` learns."""
        task, settings, noise, weights = self._tasks[kind](content, needs)
        if is_channels_last(content):
            lay_out(task.network, True)
        whole = self._images(parse_spec(content["spec"]), content["data"], "train")
        data, held = split(whole, settings.validation, content["seed"])
        if noise is not None:
            data, held = with_noise(data, noise), with_noise(held, noise)
        return Learning(task, data, held, settings, weights)

    @property
    def _tasks(self) -> dict[str, Callable[..., tuple[Task, Fitting, TuningNoise | None, str]]]:
        return {"train": self._train, "tune": self._tune, "control": self._control}

    def _train(self, content: Mapping[str, Any], needs: Sequence[Files]) -> Any:
        spec = parse_spec(content["spec"])
        network = build(spec, trust=self.trust, seed=content["seed"], verify=False).to(self.device)
        settings = spec.train or Train()
        return make_task(network, settings), settings, None, PREDICTORS

    def _tune(self, content: Mapping[str, Any], needs: Sequence[Files]) -> Any:
        spec = parse_spec(content["spec"])
        assert spec.tune is not None
        network = self._network(spec, content, needs).to(self.device)
        return DynamicsTask(network, spec.tune), spec.tune, spec.tune.noise, PREDICTORS

    def _control(self, content: Mapping[str, Any], needs: Sequence[Files]) -> Any:
        spec, settings = parse_spec(content["spec"]), Train.model_validate(content["learning"])
        network = without_feedback(spec, _size(content), seed=content["seed"], trust=self.trust)
        task = make_task(network.to(self.device), settings)
        if content["size"] is not None:
            learns_alone(network)
        return task, settings, TuningNoise.model_validate(content["noise"]), BACKBONE

    def _learn(self, kind: str, content: Mapping[str, Any], needs: Sequence[Files]) -> Files:
        """Train, and take what is left."""
        one = self.learning(kind, content, needs)
        with tempfile.TemporaryDirectory() as folder:
            fit(
                one.task,
                one.data,
                one.settings,
                folder,
                validation=one.held,
                seed=content["seed"],
                device=self.device,
                trackers=[],
                progress=False,
            )
            files = {name: (Path(folder) / name).read_bytes() for name in (one.weights, LOSSES)}
        return {**files, **(_tuned(one.task) if isinstance(one.task, DynamicsTask) else {})}

    def _measure(self, content: Mapping[str, Any], needs: Sequence[Files]) -> Files:
        network, data = self.measured(content, needs), self.images(content)
        return {MEASURED: save_tensors(followed(network, data, content))}

    def _analyse(
        self,
        analysis: Callable[[PCNetwork, ImageData, Mapping[str, Any]], Any],
        file: str,
        content: Mapping[str, Any],
        needs: Sequence[Files],
    ) -> Files:
        network, data = self.measured(content, needs), self.images(content)
        return {file: _json(analysis(network, data, content))}

    def measured(self, content: Mapping[str, Any], needs: Sequence[Files]) -> PCNetwork:
        """The network of an arm or a lesion."""
        spec = parse_spec(content["spec"])
        what = [content["spec"], content["seed"], content["cut"], is_channels_last(content)]
        key = _json(what).decode() + _digest(needs)
        if key not in self._networks:
            self._networks.clear()
            network = self._network(spec, content, needs)
            if content["cut"] is not None:
                network = lesioned(network, content["cut"])
            if is_channels_last(content):
                lay_out(network, True)
            self._networks[key] = network.to(self.device)
        return self._networks[key]

    # ---- the pieces ----------------------------------------------------------------------------

    def _network(self, spec: Spec, content: Mapping[str, Any], needs: Sequence[Files]) -> PCNetwork:
        """The network with what was trained and tuned before."""
        if "size" in content:
            return self._without_feedback(spec, content, needs)
        tensors: dict[str, Tensor] = {}
        for files in needs:
            tensors.update(load_tensors(files[PREDICTORS]))
        tuned = tuned_spec(spec, needs)
        network = build(tuned, trust=self.trust, seed=content["seed"], verify=False)
        if tensors:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / PREDICTORS
                own = {
                    name: one for name, one in tensors.items() if name.partition(".")[0] in network.predictors
                }
                path.write_bytes(save_tensors(own))
                network.load_weights(path)
            if isinstance(network.dynamics, Predify):
                network.dynamics = measured(network)
        return network

    def _without_feedback(self, spec: Spec, content: Mapping[str, Any], needs: Sequence[Files]) -> PCNetwork:
        (files,) = needs
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / BACKBONE
            path.write_bytes(files[BACKBONE])
            size, seed = _size(content), content["seed"]
            return without_feedback(spec, size, seed=seed, trust=self.trust, weights=path)

    def _images(self, spec: Spec, reference: str, part: Split) -> ImageData:
        assert spec.backbone is not None
        shape = tuple(spec.backbone.input)
        key = (reference, part, str(shape), str(spec.backbone))
        if key not in self._data:
            self._data[key] = open_data(
                reference,
                part,
                shape=shape,
                preprocess=preprocess_for(spec.backbone),
                classes=classes_of(spec),
            )
        return self._data[key]

    def images(self, content: Mapping[str, Any]) -> ImageData:
        """The images that a cell looks at."""
        spec, held_out = parse_spec(content["spec"]), content.get("part") == "held_out"
        data = self._held_out(spec, content) if held_out else self._images(spec, content["data"], "test")
        if content.get("limit") is None:
            return data
        return subset(data, choice(len(data), content["limit"], content["draws"]))

    def _held_out(self, spec: Spec, content: Mapping[str, Any]) -> ImageData:
        """What the first training holds out, without what another one learns from."""
        first, *others = [
            split(self._images(spec, one["data"], "train"), one["validation"], content["seed"])
            for one in content["learned"]
        ]
        learned = {key for one, _ in others for key in image_keys(one)}
        held = first[1]
        places = [place for place, key in enumerate(image_keys(held)) if key not in learned]
        if not places:
            hint = "Let 'train' and 'tune' take the same images, or raise 'validation'."
            message = "no image is held out of both the training and the tuning"
            raise InputError(Fault(message, ("evaluate", "step"), hint))
        return subset(held, places)


def _tuned(task: DynamicsTask) -> Files:
    """The gains of nodes, and of edges where these were tuned."""
    network = task.network
    dynamics = network.spec.dynamics.model_dump(mode="json", exclude_defaults=True)
    gains = {
        name: {one: getattr(network.graph.edges[name], one) for one in learned}
        for name, learned in task.gains_before.items()
    }
    found = {TUNED: _json({"rule": network.spec.dynamics.rule, **dynamics})}
    return {**found, **({GAINS: _json(gains)} if gains else {})}


def tuned_spec(spec: Spec, needs: Sequence[Files]) -> Spec:
    """The spec with the dynamics that the cells before have found."""
    for files in needs:
        if TUNED in files:
            tuned = parse_spec({**spec.dump(), "dynamics": json.loads(files[TUNED])}, spec.folder)
            spec = with_gains(tuned, json.loads(files.get(GAINS, b"{}")))
    return spec


def is_channels_last(content: Mapping[str, Any]) -> bool:
    """Whether a cell is computed so."""
    return CHANNELS_LAST.items() <= content.items()


def _size(content: Mapping[str, Any]) -> Size | None:
    return None if content["size"] is None else Size(**content["size"])


def _json(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True).encode()


def _digest(needs: Sequence[Files]) -> str:
    import hashlib

    found = hashlib.sha256()
    for files in needs:
        for name in sorted(files):
            found.update(name.encode() + files[name])
    return found.hexdigest()
