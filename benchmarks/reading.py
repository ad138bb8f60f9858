"""How fast one core reads photographs: decoded, resized, cut and normalised, as evaluations read them.

The baseline is Pillow decoding the same JPEGs in memory, and nothing else: the least that a reader on a
processor takes. Folders and WebDataset's tar files hold the same bytes, all of them in the disk's cache.
"""

from __future__ import annotations

import io
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from table import Group, Measure, Record

from pcgraph.datasets.references import open_data
from pcgraph.files.shipped import photo, photos
from pcgraph.spec import Preprocess

PICTURES = 48
USUAL = Preprocess(resize=256)


def pictures(width: int, height: int, quality: int) -> list[bytes]:
    """JPEGs cut from the shipped photographs, in other places each."""
    photographs = [Image.open(photo(name)).convert("RGB").resize((640, 480)) for name in photos()]
    made = []
    for number in range(PICTURES):
        left, top = 3 * number % (640 - width), 2 * number % (480 - height)
        cut = photographs[number % len(photographs)].crop((left, top, left + width, top + height))
        file = io.BytesIO()
        cut.save(file, "jpeg", quality=quality)
        made.append(file.getvalue())
    return made


def as_folder(jpegs: list[bytes], place: Path) -> str:
    """A file each, in four classes."""
    for number, jpeg in enumerate(jpegs):
        file = place / f"class{number % 4}" / f"{number:04}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg)
    return f"folder:{place}"


def as_tar(jpegs: list[bytes], place: Path) -> str:
    """A tar file of pictures and labels."""
    path = place / "val-000000.tar"
    with tarfile.open(path, "w") as tar:
        for number, jpeg in enumerate(jpegs):
            for suffix, content in (("jpg", jpeg), ("cls", str(number % 4).encode())):
                member = tarfile.TarInfo(f"{number:04}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return f"webdataset:{path}"


def reading(
    case: str,
    size: tuple[int, int],
    quality: int,
    preprocess: Preprocess,
    written: Callable[[list[bytes], Path], str],
) -> Measure:
    """Pictures a second of one core, and of one that only decodes."""

    def measure(steps: int, repeats: int) -> Record:
        jpegs = pictures(*size, quality)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as folder:
            data = open_data(written(jpegs, Path(folder)), "test", shape=(3, 224, 224), preprocess=preprocess)

            def decode() -> None:
                for jpeg in jpegs:
                    Image.open(io.BytesIO(jpeg)).load()

            def read() -> None:
                for index in range(len(data)):
                    data.item(index)

            read()
            pairs = [(seconds(decode), seconds(read)) for _ in range(repeats)]
        torch.set_num_threads(threads)
        return {
            "case": case,
            "bytes": sum(len(jpeg) for jpeg in jpegs) / PICTURES / 1e3,
            "decoded": PICTURES / statistics.median(a for a, _ in pairs),
            "read": PICTURES / statistics.median(b for _, b in pairs),
            "share": statistics.median(a / b for a, b in pairs),
        }

    return measure


def seconds(work: Callable[[], None]) -> float:
    """Of the processor, which other work on the machine changes less than the clock's."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


PHOTOGRAPHS, CORRUPTED = ((500, 375), 95, USUAL), ((224, 224), 85, Preprocess())
CASES: dict[str, Measure] = {
    "reading-folder": reading("500 x 375, a folder", *PHOTOGRAPHS, as_folder),
    "reading-tar": reading("500 x 375, a tar file", *PHOTOGRAPHS, as_tar),
    "reading-corrupted-folder": reading("224 x 224 (ImageNet-C), a folder", *CORRUPTED, as_folder),
    "reading-corrupted-tar": reading("224 x 224 (ImageNet-C), a tar file", *CORRUPTED, as_tar),
}
GROUP = Group(
    "Photographs a second of one core's time",
    {
        "bytes": ("kB each", ".0f"),
        "decoded": ("decoded only", ".0f"),
        "read": ("read by pcgraph", ".0f"),
        "share": ("part of it that decodes", ".2f"),
    },
    CASES,
)
