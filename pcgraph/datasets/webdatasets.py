"""Tar files of WebDataset: samples of files that share a name, such as ``0001.jpg`` and ``0001.cls``."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pcgraph.datasets.classes import Classes, names_of, numbers_of
from pcgraph.datasets.formats import SUFFIXES
from pcgraph.datasets.parts import Split
from pcgraph.datasets.records import Records, by_part, chosen_part, library
from pcgraph.errors import Fault, InputError

LABEL = "cls"
"""What the file with a sample's label ends in: a whole number, or the name of a class."""
MOST_SHARDS = 100_000
MOST_LABEL = 1000
"""Bytes of a label."""


@dataclass(frozen=True)
class Member:
    """A file in a tar file: (offset, size) in bytes."""

    shard: Path
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            InputError: The tar file cannot be read, or has become shorter.
        """
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise InputError(Fault(f"cannot be read: {error.strerror}", where=str(self))) from None
        if len(content) != self.size:
            raise InputError(Fault("the tar file is cut off", where=str(self)))
        return content

    def __str__(self) -> str:
        return f"{self.shard}:{self.name}"


@dataclass(frozen=True, eq=False)
class Tars(Records):
    """The samples of tar files, in their order.

    Attributes:
        name: What the data set is called in results.
        pictures: One a sample.
        labels: One a sample; none where there are no labels.
        classes: The names of the classes, by label; None where there are no labels.
    """

    name: str
    pictures: Sequence[Member]
    labels: Sequence[int] = ()
    classes: list[str] | None = None

    def __len__(self) -> int:
        return len(self.pictures)

    def label(self, index: int) -> int:
        """The class of a picture; -1 where there are no labels."""
        return self.labels[index] if self.classes is not None else -1

    def key(self, index: int) -> str:
        """Tar file and name."""
        return str(self.pictures[index])

    def content(self, index: int) -> bytes:
        """The bytes of a picture's file."""
        return self.pictures[index].read()


def webdataset(path: Path, part: Split, classes: Classes | None = None) -> Tars:
    """Pictures in tar files as WebDataset reads them.

    Args:
        path: A tar file; a pattern of several (``train-{000000..000099}.tar``); or a folder of them, where
            ``train`` and ``val`` in the files' or folders' names say the part.
        part: Which part.
        classes: The names of the classes by label, if labels (``.cls``) are names.

    Raises:
        InputError: There are no such files, they are no plain tar files, a sample has no picture or several,
            or it cannot be told what its label is.
    """
    shards = _shards(path, part)
    split = library("webdataset.tariterators").base_plus_ext
    samples = [sample for shard in shards for sample in _samples(shard, split)]
    if not samples:
        raise InputError(Fault("there is no image in these tar files", where=str(path)))
    pictures = [_picture(sample) for sample in samples]
    labels = [sample.get(LABEL) for sample in samples]
    found = [label for label in labels if label is not None]
    name = f"webdataset:{path}"
    if not found:
        return Tars(name, pictures)
    if len(found) < len(samples):
        message = f"{found[0]} is a label, and {pictures[labels.index(None)]} has none"
        raise InputError(Fault(message, where=str(path)))
    return Tars(name, pictures, *_numbers(found, classes))


# ---- which files -----------------------------------------------------------------------------------


def _shards(path: Path, part: Split) -> list[Path]:
    if path.is_dir():
        found = by_part(path, ".tar")
        return found[chosen_part(found, part, str(path))]
    if path.exists() or "{" not in path.name:
        return [_tar(path)]
    names = islice(library("braceexpand").braceexpand(str(path)), MOST_SHARDS + 1)
    shards = [_tar(Path(name)) for name in names]
    if len(shards) > MOST_SHARDS:
        raise InputError(Fault(f"a pattern of more than {MOST_SHARDS:,} files", where=str(path)))
    return shards


def _tar(path: Path) -> Path:
    if not path.is_file():
        hint = "Write webdataset:PATH with a tar file, a folder of them, or PATH/train-{000..099}.tar."
        raise InputError(Fault("there is no such file", hint=hint, where=str(path)))
    return path


# ---- what is in them -------------------------------------------------------------------------------


def _samples(shard: Path, split: object) -> Iterator[dict[str, Member]]:
    """The samples of a tar file: neighbouring files of the same name, by what they end in."""
    assert callable(split)
    before, sample = None, dict[str, Member]()
    for member in _members(shard):
        key, end = split(member.name)
        if key is None:  # such as the companion '._0001.jpg'
            continue
        if key != before and sample:
            yield sample
        if key != before:
            before, sample = key, {}
        if sample.setdefault(end.lower(), member) is not member:
            raise InputError(Fault("there are two files of this name", where=str(member)))
    if sample:
        yield sample


def _members(shard: Path) -> Iterator[Member]:
    try:
        with tarfile.open(shard, mode="r:") as tar:
            for one in tar:
                if one.isreg() and not re.match(r"(.*/)?__[^/]*__($|/)", one.name):
                    if one.issparse():
                        raise InputError(Fault("a sparse file", where=f"{shard}:{one.name}"))
                    yield Member(shard, one.name, one.offset_data, one.size)
            tar.fileobj.seek(tar.offset)
            end = tar.fileobj.read(tarfile.BLOCKSIZE)
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        hint = "WebDataset's files are plain tar files; unpack one that is compressed."
        raise InputError(
            Fault(f"no tar file that can be read: {error}", hint=hint, where=str(shard))
        ) from None
    if end != bytes(tarfile.BLOCKSIZE):  # what ends every tar file; else its last samples may be missing
        raise InputError(Fault("the tar file is cut off", where=str(shard)))


def _picture(sample: dict[str, Member]) -> Member:
    found = [member for end, member in sample.items() if f".{end}".endswith(SUFFIXES)]
    if len(found) == 1:
        return found[0]
    first = next(iter(sample.values()))
    if found:
        message = f"a sample of several images ('{found[0].name}', '{found[1].name}'), expected one"
    else:
        message = f"a sample without an image: it has {', '.join(f'.{end}' for end in sample)}"
    raise InputError(Fault(message, hint=f"An image ends in {', '.join(SUFFIXES)}.", where=str(first)))


def _numbers(labels: Sequence[Member], classes: Classes | None) -> tuple[list[int], list[str]]:
    """Labels as numbers, and the names of the classes."""
    texts = [_text(label) for label in labels]
    others = [place for place, text in enumerate(texts) if not re.fullmatch("[0-9]{1,6}", text)]
    if not others:
        numbers = [int(text) for text in texts]
        names = [str(one) for one in range(max(numbers) + 1)] if classes is None else names_of(classes)
        for number, label in zip(numbers, labels, strict=True):
            if number >= len(names):
                message = f"the label {number}, where {len(names)} classes are named"
                raise InputError(Fault(message, where=str(label)))
        return numbers, names
    if classes is None:
        text, label = texts[others[0]], labels[others[0]]
        hint = "Say the classes in the order of the labels: --classes, or 'classes' of the spec's backbone."
        raise InputError(
            Fault(f"the label {text[:100]!r} is no number below 1,000,000", hint=hint, where=str(label))
        )
    known = numbers_of(classes, texts, str(labels[0].shard))
    return [known[text] for text in texts], names_of(classes)


def _text(label: Member) -> str:
    if label.size > MOST_LABEL:
        raise InputError(Fault(f"a label of {label.size:,} bytes", where=str(label)))
    return label.read().decode("utf-8", "replace").strip()
