"""The wiring of a network as a tree in the terminal: the highest nodes first."""

from __future__ import annotations

from rich.text import Text
from rich.tree import Tree

from pcgraph.network import PCNetwork
from pcgraph.report.budgets import budgets
from pcgraph.report.labels import gain_text, predictor_text, rate_text, rule_text, shape_text, start_text
from pcgraph.report.placement import levels

STYLES = {"feedforward": "blue", "feedback": "red"}
ARROWS = {"feedforward": "←", "feedback": "⇠"}


def wiring_tree(network: PCNetwork) -> Tree:
    """Every node, and below it what predicts it: with the gains, the delay and the predictor.

    Last comes the learned first guess of its state, where there is one.
    """
    graph = network.graph
    gains = network.dynamics.gains(1)
    title = Text.assemble((network.spec.name, "bold"), (f"   {rule_text(network)}", "dim"))
    tree = Tree(title, guide_style="dim")
    budget = {one.node: one.text for one in budgets(network)}
    rank = levels(graph)
    for name in sorted(graph.nodes, key=lambda name: -rank[name]):
        node = graph.nodes[name]
        parts = [shape_text(node.shape), node.module or "", rate_text(network, name), budget.get(name, "")]
        branch = tree.add(Text.assemble((name, "bold"), "  ", "  ".join(part for part in parts if part)))
        for edge in graph.edges.values():
            if edge.target != name:
                continue
            bundle = f"Σ {edge.bundle}" if len(graph.terms[edge.bundle]) > 1 else ""
            facts = (gain_text(network, edge, gains), f"delay {edge.delay}", predictor_text(edge), bundle)
            line = Text(f"{ARROWS[edge.kind]} {' + '.join(edge.sources)}", style=STYLES[edge.kind])
            branch.add(
                line.append(f"   {'   '.join(fact for fact in facts if fact)}", style="not bold default")
            )
        if name in graph.starts:
            line = Text(start_text(graph, name), style="magenta")
            branch.add(line.append(f"   {predictor_text(graph.starts[name])}", style="not bold default"))
    return tree
