"""What the settings of a training mean for the data that it is given."""

from __future__ import annotations

from pcgraph.datasets import Augment, ImageData, Loaded, Samples, augmented
from pcgraph.errors import Fault, InputError
from pcgraph.spec.training import Fitting


def settings_for(settings: Fitting, data: ImageData | Samples | Loaded) -> Fitting:
    """The settings with the batch size of a loader, which decides on its batches itself.

    Raises:
        InputError: The settings ask for another.
    """
    if not isinstance(data, Loaded) or data.loader.batch_size in (None, settings.batch):
        return settings
    if "batch" in settings.model_fields_set:
        message = f"batches of {settings.batch}, and the loader makes batches of {data.loader.batch_size}"
        raise InputError(Fault(message, ("batch",), "Leave 'batch' out, or make them equal."))
    return settings.model_copy(update={"batch": data.loader.batch_size})


def with_augmentation(data: ImageData | Samples | Loaded, settings: Fitting) -> ImageData | Samples | Loaded:
    """The images, changed at random as the settings say.

    Raises:
        InputError: They are no pictures but a program's tensors.
    """
    augment = Augment(**settings.augment.model_dump())
    if augment == Augment():
        return data
    if not isinstance(data, ImageData):
        hint = "Let the data set change its images itself, by a transform."
        raise InputError(Fault(f"'{data.name}' holds tensors, not pictures", ("augment",), hint))
    return augmented(data, augment)
