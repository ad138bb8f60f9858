"""What torch compiles with, which this machine may lack."""

from __future__ import annotations


class NoCompilerError(Exception):
    """Nothing is installed that could compile."""


def require_compiler(device: str) -> None:
    """Make sure that there is what the default backend compiles with.

    Raises:
        NoCompilerError: It is missing.
    """
    if device == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            raise NoCompilerError("Triton is not installed, or does not know this GPU")
        return
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise NoCompilerError("there is no C++ compiler (g++, or what the variable CXX names)") from None


def reason_of(fault: Exception) -> str:
    """Why something was not compiled, in a line: where a compiler failed, the first error that it printed."""
    lines = str(fault).strip().splitlines()
    printed = lines[lines.index("Output:") + 1 :] if "Output:" in lines else []
    errors = [line for line in printed if "error" in line]
    return next(iter(errors or lines), type(fault).__name__)
