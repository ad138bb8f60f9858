"""Are the networks of several seeds faster together than one after the other?

`python benchmarks/together.py [--seeds N] [--repeats N]`

The predictors of one wiring, each with weights of several seeds: predictions and vector-Jacobian products,
which are most of a step, with one thread as in a study's cells. One after the other, and stacked
(`torch.func.stack_module_state`, `vmap`), in turn; both must agree.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from rich.console import Console
from rich.table import Table
from table import check_agreement
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vjp, vmap

import pcgraph as pcg

MLP = {
    "name": "mlp",
    "nodes": {name: {"shape": [size]} for name, size in {"a": 10, "b": 64, "c": 256, "d": 784}.items()},
    "edges": [
        {"source": source, "target": target, "predictor": ["Linear", "Tanh"]}
        for source, target in ("ab", "bc", "cd")
    ],
    "dynamics": {"rule": "energy", "rate": 0.1},
}
CASES: dict[str, object] = {"digits": "digits", "10-64-256-784": MLP}


def work(networks: list[pcg.PCNetwork], batch: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """One after the other, and together: all cotangents of all edges, in one row."""
    graph = networks[0].graph
    jobs = []
    for name, edge in graph.edges.items():
        if edge.predictor is None:
            continue
        modules: list[nn.Module] = [network.predictors[name] for network in networks]
        source = torch.randn(len(networks), batch, *graph.nodes[edge.sources[0]].shape)
        cotangent = torch.randn(len(networks), batch, *graph.nodes[edge.target].shape)
        jobs.append((modules, stack_module_state(modules), source, cotangent))

    def apart() -> Tensor:
        found = []
        for modules, _, source, cotangent in jobs:
            for module, one, back in zip(modules, source, cotangent, strict=True):
                with torch.enable_grad():
                    given = one.requires_grad_(True)
                    predicted = module(given)
                (pulled,) = torch.autograd.grad(predicted, given, back)
                found.append(pulled.flatten())
        return torch.cat(found)

    def together() -> Tensor:
        found = []
        for modules, (parameters, buffers), source, cotangent in jobs:

            def pulled(
                parameters: Mapping[str, Tensor],
                buffers: Mapping[str, Tensor],
                one: Tensor,
                back: Tensor,
                module: nn.Module = modules[0],
            ) -> Tensor:
                _, pull = vjp(lambda given: functional_call(module, (parameters, buffers), (given,)), one)
                return pull(back)[0]

            found.append(vmap(pulled)(parameters, buffers, source.detach(), cotangent).flatten())
        return torch.cat(found)

    return apart, together


def seconds(function: Callable[[], Tensor]) -> float:
    """Of one call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def main() -> None:
    """All cases and batch sizes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(title=f"{given.seeds} networks, milliseconds for all, one thread")
    for heading in ("network", "batch", "one by one", "together", "ratio", "difference"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for name, spec in CASES.items():
        made = [pcg.build(spec, seed=seed, verify=False) for seed in range(given.seeds)]
        for network in made:
            network.requires_grad_(False)
        for batch in (1, 8, 50, 200):
            apart, together = work(made, batch)
            difference = check_agreement(name, apart(), together())
            pairs = [(seconds(apart), seconds(together)) for _ in range(given.repeats)]
            one, all_ = (statistics.median(times) * 1e3 for times in zip(*pairs, strict=True))
            ratio = statistics.median(b / a for a, b in pairs)
            table.add_row(name, str(batch), f"{one:.1f}", f"{all_:.1f}", f"{ratio:.2f}", f"{difference:.0e}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
