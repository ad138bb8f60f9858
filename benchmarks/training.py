"""One training step of the feedback against the plain way, in the same run.

    python benchmarks/training.py                      # EfficientNet-B0, batch 8
    python benchmarks/training.py --device cuda --batch 64

The plain way runs the model as it is, keeps the activations by hooks, predicts them with the same
predictors, and calls `backward` on the same loss with the whole graph behind it. Both make the same
step of the optimizer; the gradients of the predictors are compared first. The two take turns, and the
medians and their ratio are printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.datasets import Batch
from pcgraph.files.shipped import shipped_spec
from pcgraph.learning.feedback import Feedback
from pcgraph.spec import load_spec
from pcgraph.tracing.models import load_model
from pcgraph.training.gradients import clear, differentiate


class Plain:
    """The model with hooks, and the whole graph behind the loss."""

    def __init__(self, network: pcg.PCNetwork) -> None:
        backbone = network.spec.backbone
        assert backbone is not None
        assert network.drive is not None
        self.network, self.seen = network, dict[str, Tensor]()
        self.model = load_model(backbone.model)
        self.model.load_state_dict(network.drive.model.state_dict(), strict=False)
        self.model.to(network.device).requires_grad_(True)
        for name, node in network.spec.nodes.items():
            self.model.get_submodule(node.module).register_forward_hook(self._keep(name))

    def _keep(self, name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, given: object, made: Tensor) -> None:
            self.seen[name] = made

        return hook

    def gradients(self, images: Tensor, parameters: list[nn.Parameter]) -> None:
        self.model(images)
        values = {"input": images, **self.seen}
        losses = [
            F.mse_loss(predictor(values[edge.split("->")[0]]), values[edge.split("->")[1]])
            for edge, predictor in self.network.predictors.items()
        ]
        clear(parameters)
        self.model.zero_grad()
        torch.stack(losses).sum().backward()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--spec", default="efficientnet_b0", help="a shipped spec; its weights are random here"
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    spec = load_spec(shipped_spec(arguments.spec))
    assert spec.backbone is not None
    spec = spec.model_copy(update={"backbone": spec.backbone.model_copy(update={"weights": None})})
    network = pcg.build(spec).to(arguments.device)
    task, plain = Feedback(network), Plain(network)
    parameters = task.parameters()
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    images = torch.randn(arguments.batch, *spec.backbone.input).to(arguments.device)
    batch = Batch(images, torch.zeros(len(images), dtype=torch.int64), torch.arange(len(images)))

    def ours() -> None:
        (losses,) = task.moments(batch)
        clear(parameters)
        differentiate(losses, parameters)

    def theirs() -> None:
        plain.gradients(images, parameters)

    found = {}
    for name, way in {"ours": ours, "plain": theirs}.items():
        way()
        found[name] = torch.cat([p.grad.reshape(-1) for p in parameters if p.grad is not None])
    distance = float((found["ours"] - found["plain"]).norm() / found["plain"].norm())
    print(f"gradients of the predictors: relative distance {distance:.1e}")
    assert distance < 1e-4

    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(arguments.repeats):
        for name, way in {"ours": ours, "plain": theirs}.items():
            began = time.perf_counter()
            way()
            optimizer.step()
            if arguments.device.startswith("cuda"):
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        shown = f"{medians[name]:.3f} s ({min(values):.3f} to {max(values):.3f})"
        print(f"{spec.name}, batch {arguments.batch}, {name}: median {shown}, n={len(values)}")
    print(f"ratio of the medians: {medians['ours'] / medians['plain']:.3f} (at most 0.7 is asked for)")


if __name__ == "__main__":
    main()
