"""Files: written whole or not at all, and known again; those that come with pcgraph."""

from pcgraph.files.syncing import naming
from pcgraph.files.writing import check_free, whole_file, whole_folder, write_text

__all__ = ["check_free", "naming", "whole_file", "whole_folder", "write_text"]
