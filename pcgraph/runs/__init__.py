"""The folder of a run: where it goes, and what says that it is one."""
