"""``python -m pcgraph`` is the same as the command ``pcgraph``."""

from pcgraph.cli import main

if __name__ == "__main__":
    main()
