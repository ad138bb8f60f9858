"""Inside a run: how it starts, what a step computes, and what is kept of it."""
