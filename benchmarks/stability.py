"""Does the spectral radius tell what a network does? Random wirings and gains, run for 300 steps.

`python benchmarks/stability.py [--wirings N] [--seed N]`

Vectors of 1 to 4 units, in 2 to 5 nodes; feedforward edges, and up to six others between any two nodes
(cycles and self edges too); delays up to 4; both rules, both orders; gains and sizes of the weights drawn at
random. *linear*: the step is the same map everywhere, its Jacobian at the start is compared with all columns
of the map, and the radius must tell what 300 steps do. *tanh*: a network that saturates may settle far from
an unstable start; the radius is that of the state where it settles, and must be below 1 there.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import pcgraph as pcg
from pcgraph.analysis.long_run import LongRun, long_run
from pcgraph.analysis.modes import leading_modes
from pcgraph.state import State

STEPS = 300
BELOW, ABOVE = 0.98, 1.02
CASES = [(rule, order) for rule in ("predify", "energy") for order in ("synchronous", "sweep")]
LAYERS = {"linear": ["Linear"], "tanh": ["Linear", "Tanh"]}


@dataclass(frozen=True)
class Found:
    """One network: its radius at the start, of the whole map, and where it came to; what it did."""

    rule: str
    order: str
    radius: float
    exact: float
    end: float
    run: LongRun

    @property
    def foretold(self) -> str:
        return f"< {BELOW}" if self.radius < BELOW else f"> {ABOVE}" if self.radius > ABOVE else "between"

    @property
    def settles(self) -> bool:
        return self.run.outcome in ("settled", "settling")


def wiring(seed: int, kind: str) -> dict[str, Any]:
    """A spec, drawn by the seed."""
    draw = random.Random(seed)
    rule, order = CASES[seed % len(CASES)]
    names = [f"n{i}" for i in range(draw.randint(2, 5))]
    up = {(draw.choice(names[:i]), names[i]) for i in range(1, len(names))}
    back = {(draw.choice(names), draw.choice(names)) for _ in range(draw.randint(1, 6))} - up

    def edge(pair: tuple[str, str], delays: list[int | None]) -> dict[str, Any]:
        delay = draw.choice(delays)
        own = {} if delay is None else {"delay": delay}
        return {"source": pair[0], "target": pair[1], "predictor": LAYERS[kind], **own}

    dynamics: dict[str, Any] = {"rule": rule}
    if rule == "energy":
        dynamics["rate"] = draw.uniform(0.05, 0.9)
    else:
        dynamics |= {"feedforward": draw.uniform(0.1, 0.9), "feedback": draw.uniform(0.0, 0.9)}
        dynamics |= {"error": draw.choice([0.05, 0.5, 3.0]) * draw.random(), "allow_negative_memory": True}
        dynamics["gradient"] = draw.choice(["sum", "normalized"])
    return {
        "name": "wiring",
        "nodes": {name: {"shape": [draw.randint(1, 4)]} for name in names},
        "edges": [edge(pair, [None, None, 1, 2, 3, 4]) for pair in sorted(up)],
        "feedback": [edge(pair, [None, None, 2, 3, 4]) for pair in sorted(back)],
        "dynamics": dynamics,
        "schedule": {"order": order},
    }


def started(seed: int, kind: str) -> tuple[pcg.Scheduler, State]:
    """The network of a seed with the first node clamped and all others at random states, in float64."""
    network = pcg.build(pcg.parse_spec(wiring(seed, kind)), seed=seed).double()
    size = random.Random(seed + 10**6).uniform(0.4, 2.0)
    with torch.no_grad():
        for parameter in network.predictors.parameters():
            parameter.mul_(size)
    generator = torch.Generator().manual_seed(seed)
    first, *others = network.graph.nodes.values()
    given = {
        node.name: torch.randn(1, *node.shape, generator=generator, dtype=torch.float64)
        for node in (first, *others)
    }
    scheduler = pcg.Scheduler(network)
    return scheduler, scheduler.start(clamp=given, free=[node.name for node in others])


def exact_radius(scheduler: pcg.Scheduler, state: State) -> float:
    """Of a linear network: the step is affine, so its columns are differences of plain steps."""
    moving = [name for name in state.values if name not in state.fixed]

    def parts(of: State) -> list[Tensor]:
        return [*(of.values[n] for n in moving), *(t for n in moving for t in of.past.get(n, ()))]

    def step(flat: Tensor) -> Tensor:
        pieces = iter(flat.split([part.numel() for part in parts(state)]))
        values = {name: next(pieces).view_as(state.values[name]) for name in moving}
        past = {n: tuple(next(pieces).view_as(t) for t in state.past.get(n, ())) for n in moving}
        begun = replace(state, values={**state.values, **values}, past={**state.past, **past})
        after = scheduler.step(replace(begun, past={n: past.get(n, begun.past[n]) for n in state.past}))
        return torch.cat([part.flatten() for part in parts(after)])

    size = sum(part.numel() for part in parts(state))
    rest = step(torch.zeros(size, dtype=torch.float64))
    columns = [step(unit) - rest for unit in torch.eye(size, dtype=torch.float64)]
    return float(torch.linalg.eigvals(torch.stack(columns, dim=1)).abs().max())


def look(seed: int, kind: str) -> Found:
    """The network of a seed."""
    scheduler, state = started(seed, kind)
    (run,), last = long_run(scheduler, state, STEPS)
    radius = leading_modes(scheduler, state, 1)[0].modulus
    exact = exact_radius(scheduler, state) if kind == "linear" else float("nan")
    settled = run.outcome in ("settled", "settling")
    end = leading_modes(scheduler, last, 1)[0].modulus if settled else float("nan")
    return Found(*CASES[seed % len(CASES)], radius, exact, end, run)


def confusion(found: list[Found]) -> Iterator[str]:
    """Of each rule and order, how many settled that should and should not."""
    yield "| rule | order | radius | settled | settling | cycle | moving | growing | diverged |"
    yield "|---|---|---|---|---|---|---|---|---|"
    outcomes = ("settled", "settling", "cycle", "moving", "growing", "diverged")
    for rule, order in CASES:
        for foretold in (f"< {BELOW}", "between", f"> {ABOVE}"):
            some = [one for one in found if (one.rule, one.order, one.foretold) == (rule, order, foretold)]
            counts = Counter(one.run.outcome for one in some)
            yield f"| {rule} | {order} | {foretold} | {' | '.join(str(counts[name]) for name in outcomes)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--wirings", type=int, default=400, help="of each kind")
    parser.add_argument("--seed", type=int, default=0, help="the first")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(asked.seed, asked.seed + asked.wirings)
    linear = [look(seed, "linear") for seed in seeds]
    print(f"linear, {len(linear)} wirings; radius at the start\n", *confusion(linear), sep="\n")
    apart = max(abs(one.radius - one.exact) / max(one.exact, 1) for one in linear)
    wrong = [s for s, one in zip(seeds, linear, strict=True) if one.foretold != "between"]
    wrong = [s for s in wrong if linear[s - asked.seed].settles != (linear[s - asked.seed].radius < 1)]
    print(f"\nlargest error of the radius: {apart:.1e}; wrongly foretold: {wrong or 'none'}\n")
    tanh = [look(seed, "tanh") for seed in seeds]
    print(f"tanh, {len(tanh)} wirings; radius at the start\n", *confusion(tanh), sep="\n")
    ends = [one.end for one in tanh if one.settles]
    print(f"\nsettled: {len(ends)}; largest radius where they settled: {max(ends):.4f}")


if __name__ == "__main__":
    main()
