"""What a cell does: a function of its content and of the files of the cells that it needs."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from pcgraph.analysis.lesion import Lesioned
from pcgraph.building.network import build, measured
from pcgraph.datasets import ImageData, batches, choice, image_keys, open_data, preprocess_for, split, subset
from pcgraph.datasets.classes import classes_of
from pcgraph.datasets.noise import mixed_seed
from pcgraph.datasets.parts import Split
from pcgraph.dynamics.gains import Predify
from pcgraph.errors import DivergenceError, Fault, InputError, LossError
from pcgraph.evaluation.conditions import Clean
from pcgraph.evaluation.loop import check_classes
from pcgraph.evaluation.measures import follow
from pcgraph.learning.dynamics import DynamicsTask, with_noise
from pcgraph.learning.saving import PREDICTORS
from pcgraph.learning.tasks import make_task
from pcgraph.network import PCNetwork
from pcgraph.scheduler import Scheduler
from pcgraph.spec import Fitting, Spec, Train, parse_spec
from pcgraph.study.analyses import stability_of
from pcgraph.study.conditions import condition_of
from pcgraph.training import Task, fit

Files = dict[str, bytes]
"""What a cell leaves, by file name."""
_ONE_AT_A_TIME = threading.Lock()
"""Held while a cell is computed: all threads of a process share torch's generator and number of threads."""
FAILED, TUNED, MEASURED = "failed.json", "dynamics.json", "measured.safetensors"
STABILITY = "stability.json"


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
        with _ONE_AT_A_TIME, one_thread():
            try:
                return self._kinds[kind](content, needs)
            except (DivergenceError, LossError) as error:
                return {FAILED: _json({"during": kind, "message": str(error)})}

    @property
    def _kinds(self) -> dict[str, Callable[[Mapping[str, Any], Sequence[Files]], Files]]:
        return {
            "train": self._train,
            "tune": self._tune,
            "measure": self._measure,
            "stability": self._stability,
        }

    def _train(self, content: Mapping[str, Any], needs: Sequence[Files]) -> Files:
        spec, seed = parse_spec(content["spec"]), content["seed"]
        network = build(spec, trust=self.trust, seed=seed, verify=False).to(self.device)
        settings = spec.train or Train()
        task = make_task(network, settings)
        data, held = split(self._images(spec, content["data"], "train"), settings.validation, seed)
        return self._fitted(task, data, held, settings, seed)

    def _tune(self, content: Mapping[str, Any], needs: Sequence[Files]) -> Files:
        spec, seed = parse_spec(content["spec"]), content["seed"]
        assert spec.tune is not None
        network = self._network(spec, seed, needs).to(self.device)
        task = DynamicsTask(network, spec.tune)
        whole = self._images(spec, content["data"], "train")
        data, held = (with_noise(one, spec.tune.noise) for one in split(whole, spec.tune.validation, seed))
        files = self._fitted(task, data, held, spec.tune, seed)
        dynamics = network.spec.dynamics.model_dump(mode="json", exclude_defaults=True)
        return {**files, TUNED: _json({"rule": network.spec.dynamics.rule, **dynamics})}

    def _measure(self, content: Mapping[str, Any], needs: Sequence[Files]) -> Files:
        network = self._measured(content, needs)
        data = self._measured_images(network.spec, content)
        return {MEASURED: save_tensors(_followed(network, data, content))}

    def _stability(self, content: Mapping[str, Any], needs: Sequence[Files]) -> Files:
        network = self._measured(content, needs)
        data = self._measured_images(network.spec, content)
        return {STABILITY: _json(stability_of(network, data, content))}

    def _measured(self, content: Mapping[str, Any], needs: Sequence[Files]) -> PCNetwork:
        """The network of an arm or a lesion."""
        spec = parse_spec(content["spec"])
        key = _json([content["spec"], content["seed"], content["cut"]]).decode() + _digest(needs)
        if key not in self._networks:
            self._networks.clear()
            network = self._network(spec, content["seed"], needs)
            if content["cut"] is not None:
                edges = frozenset(edge.name for edge in network.graph.terms[content["cut"]])
                network.dynamics = Lesioned(network.dynamics, content["cut"], edges)
            self._networks[key] = network.to(self.device)
        return self._networks[key]

    def _fitted(self, task: Task, data: ImageData, held: ImageData, settings: Fitting, seed: int) -> Files:
        """Train, and take what is left."""
        with tempfile.TemporaryDirectory() as folder:
            fit(
                task,
                data,
                settings,
                folder,
                validation=held,
                seed=seed,
                device=self.device,
                trackers=[],
                progress=False,
            )
            return {name: (Path(folder) / name).read_bytes() for name in (PREDICTORS, "losses.csv")}

    # ---- the pieces ----------------------------------------------------------------------------

    def _network(self, spec: Spec, seed: int, needs: Sequence[Files]) -> PCNetwork:
        """The network with what was trained and tuned before."""
        values: dict[str, Any] = spec.dump()
        tensors: dict[str, Tensor] = {}
        for files in needs:
            tensors.update(load_tensors(files[PREDICTORS]))
            if TUNED in files:
                values["dynamics"] = json.loads(files[TUNED])
        network = build(parse_spec(values, spec.folder), trust=self.trust, seed=seed, verify=False)
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

    def _measured_images(self, spec: Spec, content: Mapping[str, Any]) -> ImageData:
        held_out = content.get("part") == "held_out"
        data = self.held_out(spec, content) if held_out else self._images(spec, content["data"], "test")
        if content.get("limit") is None:
            return data
        return subset(data, choice(len(data), content["limit"], content["draws"]))

    def held_out(self, spec: Spec, content: Mapping[str, Any]) -> ImageData:
        """What the first training holds out, without what another one learns from.

        Raises:
            InputError: Nothing is left.
        """
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


def _followed(network: PCNetwork, data: ImageData, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The answers at every step, (steps + 1, images) int16, and the labels (images,)."""
    scheduler, condition = Scheduler(network), condition_of(content["condition"])
    answers, labels = [], []
    for number, batch in enumerate(batches(data, content["batch"], seed=content["draws"])):
        nothing = torch.empty(0, len(batch), dtype=torch.int64)
        clean = Clean(
            batch.images, batch.labels, batch.indices, nothing, scheduler, data.preprocess, content["draws"]
        )
        seed = mixed_seed(content["draws"], number)
        run = follow(scheduler, condition.inputs(clean), content["steps"], False, seed)
        check_classes(data, batch.labels, run)
        answers.append(run.answers.short())
        labels.append(batch.labels)
    return {"answers": torch.cat(answers, dim=1).contiguous(), "labels": torch.cat(labels)}


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, so that sums are rounded alike wherever a cell runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _json(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True).encode()


def _digest(needs: Sequence[Files]) -> str:
    import hashlib

    found = hashlib.sha256()
    for files in needs:
        for name in sorted(files):
            found.update(name.encode() + files[name])
    return found.hexdigest()
