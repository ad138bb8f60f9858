"""What torch compiles with, which this machine may lack."""

from __future__ import annotations

_RAISED = "Developer debug context: raised exception "
"""What torch writes before the error of the code that it traced."""


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
    """Why something was not compiled, in a line.

    Where a compiler failed, the first error that it printed; where what was traced did, its own error.
    """
    lines = [line.strip() for line in str(fault).strip().splitlines()]
    printed = lines[lines.index("Output:") + 1 :] if "Output:" in lines else []
    errors = [line for line in printed if "error" in line]
    errors += [line.removeprefix(_RAISED) for line in lines if line.startswith(_RAISED)]
    if lines and lines[0].endswith(" raised:"):
        del lines[0]
    return next(iter(errors or lines), type(fault).__name__)
