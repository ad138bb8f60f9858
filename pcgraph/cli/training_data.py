"""What a command that trains is given: settings and images, from the spec and from the options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcgraph.cli.options import choice, class_order

if TYPE_CHECKING:
    from pcgraph.datasets import ImageData, Samples
    from pcgraph.network import PCNetwork
    from pcgraph.spec import Fitting

    Data = ImageData | Samples


def settings_of(section: Fitting, **options: Any) -> Any:
    """A section of the spec, with what the command line says otherwise.

    Raises:
        InputError: A value that the section refuses.
    """
    from pydantic import ValidationError

    from pcgraph.errors import Fault, InputError

    values = section.model_dump(exclude_unset=True)
    rate = options.pop("lr")
    values.update({name: value for name, value in options.items() if value is not None})
    if rate is not None:
        values["optimizer"] = {**values.get("optimizer", {}), "lr": rate}
    try:
        return type(section).model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = f"--{first['loc'][-1]}"
        message = f"{first['msg'][:1].lower()}{first['msg'][1:]}, got {first['input']!r}"
        raise InputError(Fault(message, where=option)) from None


def training_data(
    network: PCNetwork,
    settings: Fitting,
    seed: int,
    download: bool,
    skip_broken: bool,
    limit: int | None = None,
    classes: str | None = None,
) -> tuple[Data, Data]:
    """The images to train on, and those held out; with ``limit``, out of a random choice of so many.

    Raises:
        InputError: There are none of that name, or nobody says which.
    """
    from pcgraph.datasets import open_data, preprocess_for, split, subset
    from pcgraph.datasets.tensors import SUFFIXES, tensor_data
    from pcgraph.errors import Fault, InputError

    if settings.data is None:
        hint = "Give --data, for example '--data digits', or write 'data' under 'train'."
        raise InputError(Fault("nobody says which images to train on", hint=hint))
    shape = network.graph.nodes[network.graph.receiver].shape
    preprocess = preprocess_for(network.spec.backbone)
    data: Data
    path = Path(settings.data).expanduser()
    if path.suffix.lower() in SUFFIXES and (path.is_file() or ":" not in settings.data):
        data = tensor_data(path, shape)
    else:
        data = open_data(
            settings.data,
            "train",
            shape=shape,
            preprocess=preprocess,
            classes=class_order(classes, network.spec),
            download=download,
            skip_broken=skip_broken,
        )
    if limit is not None:
        data = subset(data, choice(len(data), limit, seed))
    return split(data, settings.validation, seed)
