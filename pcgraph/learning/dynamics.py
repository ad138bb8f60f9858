"""The dynamics learn: gains of nodes and edges follow a classification loss through time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcgraph.datasets import Batch, ImageData
from pcgraph.datasets.data import changed
from pcgraph.datasets.noise import salt_and_pepper
from pcgraph.dynamics.gains import Predify
from pcgraph.dynamics.own_gains import with_gains
from pcgraph.dynamics.tunable import TunablePredify
from pcgraph.errors import Fault, InputError
from pcgraph.learning.saving import save_network
from pcgraph.network import PCNetwork
from pcgraph.scheduler import Scheduler
from pcgraph.spec import Tune, TuningNoise, wiring


class DynamicsTask:
    """Tunes the dynamics (Choksi et al. 2021, "Predify"; Alamia et al. 2023).

    The loss is the cross-entropy of the output, meaned over the steps after the start, or of the last
    step. Its gradient goes through all steps, with the error gradients taken as given (``first_order``),
    as in the published package.

    Args:
        network: With a backbone that classifies, and rule `predify`; its dynamics are replaced until `fit`
            ends (`finish`), when it has plain ones again, with the tuned values.
        settings: Which values, which loss, how many steps.

    Raises:
        InputError: The network has no classes or another rule; or edges' own gains alone shall learn, and
            there are none.
        SpecError: See `TunablePredify`.
    """

    def __init__(self, network: PCNetwork, settings: Tune) -> None:
        self.network = network
        self.settings = settings
        if (
            network.drive is None
            or network.drive.output_shape is None
            or len(network.drive.output_shape) != 1
        ):
            hint = "Tuning needs a backbone whose output is one vector of class scores."
            raise InputError(Fault("the network gives no class scores", ("backbone",), hint))
        if not isinstance(network.dynamics, Predify):
            hint = "Write 'dynamics: {rule: predify}'."
            raise InputError(Fault("only the rule 'predify' has values to tune", ("dynamics",), hint))
        self.before = network.dynamics.values()
        self._required = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
        learns = settings.learns
        network.dynamics = self.dynamics = TunablePredify(
            network.dynamics, shared=settings.shared, nodes="dynamics" in learns, edges="edges" in learns
        )
        self.gains_before = self.dynamics.plain_gains()
        self.dynamics.to(network.device, network.dtype)
        network.requires_grad_(False)
        for parameter in self.parameters():
            parameter.requires_grad_(True)
        self.scheduler = Scheduler(network)
        if learns == ["edges"] and not self.parameters():
            hint = "Write 'gain' or 'error' on edges, or 'learns: [dynamics]'."
            raise InputError(Fault("no edge has a gain of its own that can learn", ("tune", "learns"), hint))
        self.steps = settings.steps or (network.spec.schedule.steps,) * 2

    def parameters(self) -> list[nn.Parameter]:
        """The raw values, and the predictors' weights where these shall learn, too."""
        found: list[nn.Parameter] = []
        if "dynamics" in self.settings.learns:
            found += self.dynamics.raw.parameters()
        if self.dynamics.own is not None:
            found += [one for one in self.dynamics.own.parameters() if len(one)]
        if "predictors" in self.settings.learns:
            found += self.network.predictors.parameters()
        return found

    def moments(self, batch: Batch) -> Iterator[Mapping[str, Tensor]]:
        """One moment a batch: the cross-entropy, over a number of steps drawn for this batch.

        All parts of a batch draw the same number, in every process.
        """
        if self.network.dynamics is not self.dynamics:
            hint = "Make another DynamicsTask of the network."
            raise InputError(Fault("this tuning is over: the network has plain dynamics again", hint=hint))
        least, most = self.steps
        draw = torch.Generator().manual_seed(batch.seed)
        run = self.scheduler.run(
            batch.images,
            int(torch.randint(least, most + 1, (), generator=draw)),
            record=["output"],
            seed=batch.seed,
            places=batch.indices,
            differentiable="first_order",
            checkpoint=self.settings.save_memory,
        )
        yield {"cross_entropy": self._loss(run.output, batch)}

    def measure(self, batch: Batch) -> Mapping[str, Tensor]:
        """Loss and accuracy of the longest run, and the accuracy of the plain network."""
        run = self.scheduler.run(
            batch.images, self.steps[1], record=["output"], seed=batch.seed, places=batch.indices
        )
        first, last = ((run.output[at].argmax(dim=1) == batch.labels).float().mean() for at in (0, -1))
        return {
            "cross_entropy": self._loss(run.output, batch),
            "accuracy": last,
            "accuracy at step 0": first,
        }

    def finish(self) -> None:
        """Give the network the plain rule with the tuned values, and its spec these values.

        Whatever required a gradient before the tuning requires one again, so that the network can learn on.
        """
        tuned, rule = self.dynamics.plain(), self.dynamics
        gains = rule.plain_gains()
        if gains:
            self.network.graph = with_gains(rule.graph, gains)
        self.network.dynamics = Predify(self.network.graph, tuned, rule.reach, rule.carried)
        spec = self.network.spec.model_copy(update={"dynamics": tuned})
        self.network.spec = wiring.with_gains(spec, gains)
        for parameter, required in self._required:
            parameter.requires_grad_(required)

    def save(self, folder: Path) -> None:
        """Write the spec with the tuned values in its `dynamics`, and the weights; see `finish`."""
        self.finish()
        save_network(self.network, folder)

    def _loss(self, outputs: list[Any], batch: Batch) -> Tensor:
        counted = outputs[1:] if self.settings.loss == "every" else outputs[-1:]
        losses = [F.cross_entropy(output.float(), batch.labels) for output in counted]
        return torch.stack(losses).mean()


@dataclass(frozen=True)
class DrawnNoise:
    """Noise of a kind and a level that are drawn for each image.

    Attributes:
        noise: The kinds, the ranges of their levels, and the share of images that stay clean.
        std: What each channel is divided by after the noise: Gaussian levels are on the normalised scale.
    """

    noise: TuningNoise
    std: tuple[float, ...]

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Noise on pixels (channels, height, width) from 0 to 1."""
        kinds = [name for name in ("gaussian", "salt_pepper") if getattr(self.noise, name) is not None]
        clean = self.noise.clean
        if not kinds or (clean and float(torch.rand((), generator=generator)) < clean):
            return pixels
        kind = kinds[int(torch.randint(len(kinds), (), generator=generator))]
        low, high = getattr(self.noise, kind)
        level = low + (high - low) * float(torch.rand((), generator=generator))
        if kind == "salt_pepper":
            return salt_and_pepper(pixels, level, generator)
        sigma = level * torch.tensor(self.std).view(-1, 1, 1)
        noised: Tensor = pixels + sigma * torch.randn(pixels.shape, generator=generator)
        return noised


def with_noise(data: ImageData, noise: TuningNoise) -> ImageData:
    """The images with noise drawn for each, anew in every epoch; the same in any batch or process.

    Raises:
        InputError: The images have no labels.
    """
    if not data.labelled:
        hint = "Give class folders, or data with classes."
        raise InputError(Fault(f"'{data.name}' has no classes to tune for", hint=hint))
    return changed(data, DrawnNoise(noise, data.preprocess.std))
