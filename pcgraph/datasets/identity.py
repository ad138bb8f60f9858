"""Whether images are those that a command began with."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Hashable
from contextlib import suppress

from pcgraph.datasets.data import ImageData
from pcgraph.datasets.photographs import Photographs
from pcgraph.datasets.records import Records
from pcgraph.datasets.sources import Arrays, Files
from pcgraph.errors import InputError

READ = 1000
"""Files, spread over all, whose contents are looked at."""


def data_digest(data: ImageData) -> str:
    """SHA-256 of the names and labels of all images, in their order, and of the contents of up to 1,000.

    It is the same wherever the folder of the images is.
    """
    source = data.source
    found = hashlib.sha256(json.dumps([source.classes, len(source), len(data)]).encode())
    found.update(json.dumps([int(data.label(place)) for place in range(len(data))]).encode())
    if isinstance(source, Arrays):
        for place in range(len(data)):
            found.update(source.values[data._place(place)].tobytes())
    elif isinstance(source, Files):
        paths = [source.paths[data._place(place)] for place in range(len(data))]
        root = os.path.commonpath([path.absolute() for path in paths]) if paths else ""
        for path in paths:
            found.update(os.fsencode(os.path.relpath(path.absolute(), root)) + b"\0")
        for path in paths[:: -(-len(paths) // READ)] if paths else ():
            if path.is_file():
                found.update(path.read_bytes())
    elif isinstance(source, Records):
        rows = [data._place(place) for place in range(len(data))]
        for row in rows[:: -(-len(rows) // READ)] if rows else ():
            with suppress(InputError):  # a broken one may be left out
                found.update(source.content(row))
    elif isinstance(source, Photographs):
        for path in source.paths:
            found.update(path.read_bytes())
    return found.hexdigest()


def image_keys(data: ImageData) -> list[Hashable]:
    """What tells each image from all others, in order: two data sets that share an image share its key.

    Files are known by their paths; what is in a container by the container's name, size and first image,
    and by its place there.
    """
    source = data.source
    places = [data._place(place) for place in range(len(data))]
    if isinstance(source, Files):
        return [os.path.realpath(source.paths[place]) for place in places]
    if isinstance(source, Photographs):
        return [os.path.realpath(source.paths[place % len(source.paths)]) for place in places]
    if isinstance(source, Arrays):
        whole: Hashable = hashlib.sha256(source.values.tobytes()).hexdigest()
    elif isinstance(source, Records) and places:
        whole = (source.name, len(source), hashlib.sha256(source.content(0)).hexdigest())
    else:
        whole = (source.name, len(source))
    return [(whole, place) for place in places]
