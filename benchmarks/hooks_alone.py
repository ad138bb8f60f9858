"""The baseline in a process that has not imported pcgraph: its peak of memory, and what it found."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import torch
from hook_style import HookNetwork, hook_gradient, images
from peaks import peaks


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path, help="where to write what was found")
    parser.add_argument("parts", type=Path, help="what `networks.keep_baseline` wrote")
    parser.add_argument("batch", type=int)
    parser.add_argument("steps", type=int)
    parser.add_argument("--differentiable", action="store_true", help="the gradient for the images")
    asked = parser.parse_args()
    hooks = HookNetwork(**torch.load(asked.parts, weights_only=False))  # a file of this very run
    given = images(asked.batch)
    work = partial(hooks.run, given, asked.steps)
    if asked.differentiable:
        work = partial(hook_gradient, hooks, given.requires_grad_(), asked.steps)
    found, above, whole = peaks(work)
    torch.save(found, asked.result)
    print(json.dumps({"above": above, "whole": whole}))


if __name__ == "__main__":
    main()
