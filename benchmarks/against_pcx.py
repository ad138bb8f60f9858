"""Inference learning against PCX (JAX): seconds an epoch, the two in turn.

    python -m venv pcxenv && pcxenv/bin/pip install pcx==0.6.3
    python benchmarks/against_pcx.py --pcx-python pcxenv/bin/python

PCX runs in its own process, in a loop like that of its tutorials (pcx_side.py). against.py tells what is
compared, and how it is checked that both do the same.
"""

from against import compare

if __name__ == "__main__":
    compare("PCX", "pcx_side.py", __doc__, tolerance=0.01)  # rounding makes the two drift apart
