"""Files: written whole or not at all; those that come with pcgraph."""

from pcgraph.files.writing import check_free, whole_file, whole_folder, write_text

__all__ = ["check_free", "whole_file", "whole_folder", "write_text"]
