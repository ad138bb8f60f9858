"""However many processes share the batches, together they see what one would see, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcgraph.datasets import (
    Augment,
    Batch,
    ImageData,
    augmented,
    batch_count,
    batches,
    noisy,
    open_data,
    subset,
)
from pcgraph.datasets.noise import Noise
from pcgraph.errors import InputError
from tests.datasets.conftest import Writer

DIGITS = open_data("digits", "train", shape=(1, 28, 28))
RANDOM = noisy(augmented(DIGITS, Augment(crop=(0.5, 1), flip=True, shift=2)), Noise("gaussian", 0.5))


def same(one: Batch, other: Batch) -> bool:
    return all(
        torch.equal(a, b)
        for a, b in [(one.images, other.images), (one.labels, other.labels), (one.indices, other.indices)]
    )


def joined(parts: list[Batch]) -> Batch:
    return Batch(
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
        torch.cat([part.indices for part in parts]),
    )


@given(
    count=st.integers(1, 23),
    size=st.integers(1, 9),
    processes=st.integers(1, 5),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 2),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    start=st.integers(0, 4),
)
def test_processes_together_see_what_one_sees(
    count: int,
    size: int,
    processes: int,
    seed: int,
    epoch: int,
    shuffle: bool,
    drop_last: bool,
    start: int,
) -> None:
    data = subset(RANDOM, range(7, 7 + count))
    settings = {"seed": seed, "epoch": epoch, "shuffle": shuffle, "drop_last": drop_last}
    alone = list(batches(data, size, **settings))
    shared = [
        list(batches(data, size, **settings, process=process, processes=processes, start=start))
        for process in range(processes)
    ]
    assert len(alone) == batch_count(data, size, drop_last=drop_last)
    assert {len(part) for part in shared} == {max(0, len(alone) - start)}
    for whole, *parts in zip(alone[start:], *shared, strict=True):
        assert same(whole, joined(parts))
        assert {whole.seed} == {part.seed for part in parts}
        assert max(map(len, parts)) - min(map(len, parts)) <= 1

    assert len({batch.seed for batch in alone}) == len(alone)
    seen = torch.cat([batch.indices for batch in alone]) if alone else torch.empty(0, dtype=torch.int64)
    expected = count - count % size if drop_last else count
    assert len(seen) == len(seen.unique()) == expected
    if not shuffle:
        assert seen.tolist() == list(range(expected))
    for batch in alone:
        for image, label, index in zip(batch.images, batch.labels, batch.indices.tolist(), strict=True):
            item = data.item(index, seed, epoch)
            assert torch.equal(item.image, image)
            assert item.label == label == DIGITS.label(7 + index)


def test_order_changes_with_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        found = batches(subset(DIGITS, range(200)), 200, seed=seed, epoch=epoch, shuffle=True)
        return next(found).indices.tolist()

    orders = {tuple(order(seed, epoch)) for seed in range(2) for epoch in range(2)}
    assert len(orders) == 4
    assert order(1, 0) == order(1, 0)
    assert {tuple(sorted(one)) for one in orders} == {tuple(range(200))}


@pytest.mark.parametrize("processes", [1, 2])
def test_reading_ahead_changes_nothing(processes: int) -> None:
    data = subset(RANDOM, range(11))
    before = torch.get_rng_state()
    for process in range(processes):
        settings = {"seed": 3, "shuffle": True, "process": process, "processes": processes, "start": 1}
        plain = list(batches(data, 4, **settings))
        ahead = list(batches(data, 4, **settings, workers=2))
        assert len(plain) == 2
        assert all(same(one, other) for one, other in zip(plain, ahead, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


def folder_with_a_broken_file(write: Writer, **options: bool) -> ImageData:
    for number in range(6):
        write(f"all/{'ab'[number % 2]}/{number}.png", number)
    path = write("all/b/3.png")
    path.write_bytes(path.read_bytes()[:45])  # ends within the pixels
    return open_data(f"folder:{path.parent.parent}", "train", shape=(3, 8, 8), **options)


def test_a_broken_file_is_named(write: Writer) -> None:
    data = folder_with_a_broken_file(write)
    with pytest.raises(InputError, match=r"b[/\\]3\.png: .*broken"):
        list(batches(data, 4))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_is_skipped_and_counted(write: Writer, workers: int, tmp_path: Path) -> None:
    data = folder_with_a_broken_file(write, skip_broken=True)
    for _ in range(2):  # the second time adds nothing
        parts = list(batches(subset(data, range(6)), 4, workers=workers))
        assert [len(part) for part in parts] == [4, 1]  # a/0, a/2, a/4, b/1 and b/3, b/5
        assert joined(parts).indices.tolist() == [0, 1, 2, 3, 5]
        assert joined(parts).labels.tolist() == [0, 0, 0, 1, 1]
    assert [fault.where for fault in data.skipped] == [str(tmp_path / "all" / "b" / "3.png")]


def test_an_empty_share_has_the_shape_of_the_others() -> None:
    parts = [list(batches(subset(DIGITS, [5]), 4, process=process, processes=3)) for process in range(3)]
    assert [len(part[0]) for part in parts] == [0, 0, 1]
    assert parts[0][0].images.shape == (0, 1, 28, 28)


def test_sizes_that_make_no_sense() -> None:
    with pytest.raises(InputError, match="a batch of 0"):
        next(batches(DIGITS, 0))
    with pytest.raises(InputError, match="process 2 of 2"):
        next(batches(DIGITS, 4, process=2, processes=2))
