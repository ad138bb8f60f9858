"""Inference learning against FabricPC (JAX): seconds an epoch, the two in turn.

    python -m venv fab && fab/bin/pip install fabricpc==0.6.0
    python benchmarks/against_fabricpc.py --fabricpc-python fab/bin/python

FabricPC's own loop (`fabricpc.training.train`) runs in its own process. against.py tells what is compared,
and how it is checked that both do the same.
"""

from against import compare

if __name__ == "__main__":
    compare("FabricPC", "fabricpc_side.py", __doc__, tolerance=0.05)  # it tells them a step earlier
