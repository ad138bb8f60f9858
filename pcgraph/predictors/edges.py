"""The functions of all edges, and whether they have learned."""

from __future__ import annotations

from typing import Any

from torch import nn

TRAINED = "trained"


class EdgeFunctions(nn.ModuleDict):
    """Modules by edge name, which know whether their weights were loaded or are random.

    What `state_dict` gives tells it to what loads it, in the metadata that PyTorch keeps for each module;
    weights from elsewhere, which have none, count as trained.

    Attributes:
        trained: Whether the weights were loaded.
    """

    trained = False

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]][TRAINED] = self.trained

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *others: Any) -> None:
        if any(name.startswith(prefix) for name in state_dict):
            self.trained = local_metadata.get(TRAINED, True)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *others)
