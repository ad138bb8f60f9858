"""An edge's function: built from its spec and two shapes, masked, and how far it reaches."""
