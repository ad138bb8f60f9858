"""A model is made: without storage where it is only looked at, and with faults that say what to do."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from pcgraph.errors import Fault, ModelError


class _WithoutStorage(TorchFunctionMode):
    """Makes ``torch.empty``, where parameters come from, give tensors on the meta device.

    A device context would move every factory function, and constructors that compute with numbers
    of a ``torch.linspace`` (regnet) or ``torch.arange`` need real ones.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def construct(ref: str, build: Callable[[], nn.Module], meta: bool, downloads: bool) -> nn.Module:
    """Call what makes a model.

    Args:
        ref: What the model is called in faults.
        build: Makes it.
        meta: Without storage, where the model can.
        downloads: Whether weights may have to be fetched.

    Raises:
        ModelError: It cannot be made.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if meta:
            with contextlib.suppress(Exception), _WithoutStorage():
                return build().to("meta")
        try:
            return build()
        except Exception as error:
            if downloads and _is_about_network(error):
                raise ModelError(
                    Fault(
                        f"the weights of '{ref}' cannot be downloaded: {error}",
                        ("weights",),
                        hint="Download the file where there is a network, put it next to the spec, "
                        "and write 'weights: FILE'; or leave 'weights' out for random ones.",
                    )
                ) from error
            raise ModelError(f"'{ref}' cannot be built: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def about(argument: str) -> Iterator[None]:
    """Say of faults in the block which argument they are about."""
    try:
        yield
    except ModelError as error:
        raise ModelError(replace(fault, path=(argument,)) for fault in error.faults) from error


def _is_about_network(error: BaseException) -> bool:
    libraries = ("urllib", "http", "httpx", "httpcore", "requests", "huggingface_hub", "socket", "ssl")
    return any(
        isinstance(cause, OSError) or type(cause).__module__.partition(".")[0] in libraries
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
