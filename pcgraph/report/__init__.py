"""What a person sees: the wiring drawn, tables, figures, and the run folder."""
