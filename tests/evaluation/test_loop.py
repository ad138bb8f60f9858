"""The loop: exact counts, the same results in any number of processes, and after any interruption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import pcgraph as pcg
from pcgraph.datasets import ImageData
from pcgraph.datasets.noise import Noise
from pcgraph.datasets.sources import Files
from pcgraph.errors import InputError
from pcgraph.evaluation import Attack, Condition, Measured, Noisy, Settings, evaluate
from pcgraph.evaluation.attacks import target_classes
from pcgraph.evaluation.loop import work
from pcgraph.evaluation.measures import follow
from pcgraph.evaluation.processes import Processes
from pcgraph.evaluation.store import Store, read_measured
from tests.evaluation.conftest import PREPROCESS, pictures

SETTINGS = Settings(steps=2, batch=4, seed=1, distances=True)
CONDITIONS: list[Condition] = [
    Noisy(Noise("gaussian", 1.0)),
    Noisy(Noise("salt_pepper", 0.2)),
    Attack("pgd", 0.1, 1, iterations=3),
]
NAMES = ["clean:0", "gaussian:1", "salt_pepper:0.2", "pgd@1:0.1"]


def same(one: Measured, other: Measured) -> bool:
    return set(one) == set(other) and all(
        set(rows) == set(other[name]) and all(rows[what].equal(other[name][what]) for what in rows)
        for name, rows in one.items()
    )


def test_counts_are_those_of_running_the_images_one_by_one(network: pcg.PCNetwork) -> None:
    data = pictures(11)
    found = evaluate(network, data, CONDITIONS, SETTINGS)
    assert list(found) == NAMES
    scheduler = pcg.Scheduler(network)
    for index in range(11):
        run = scheduler.run(data.item(index).image[None], 2, record=["output"])
        for step in range(3):
            right = int(run.output[step].argmax()) == data.label(index)
            assert found["clean:0"]["correct"][step, index] == right
    for rows in found.values():
        assert rows["index"].tolist() == list(range(11))
        assert rows["correct"].shape == (3, 11)
        assert rows["distance:e2"].shape == (3, 11)
    assert (found["clean:0"]["distance:e2"].abs() < 1e-6).all()
    assert (found["gaussian:1"]["distance:e2"] > 0.01).all()


def test_success_of_an_attack_is_a_wrong_answer_or_the_target(network: pcg.PCNetwork) -> None:
    data = pictures(6)
    attacks: list[Condition] = [
        Attack("bim", 0.3, 1, iterations=3),
        Attack("bim", 0.3, 1, iterations=3, targeted=True),
    ]
    found = evaluate(network, data, attacks, Settings(2, 6))
    plain = found["bim@1:0.3"]
    assert (plain["success"] == 1 - plain["correct"]).all()
    labels = torch.tensor([data.label(index) for index in range(6)])
    aimed = target_classes(labels, 10)
    assert found["bim-targeted@1:0.3"]["success"].sum() > 0
    assert not (found["bim-targeted@1:0.3"]["success"] & found["bim-targeted@1:0.3"]["correct"]).any()
    assert (aimed != labels).all()


def test_images_without_labels_are_led_away_from_the_clean_answer(network: pcg.PCNetwork) -> None:
    found = evaluate(network, pictures(5, labelled=False), [Attack("bim", 0.5, 2)], Settings(2, 5))
    assert "correct" not in found["clean:0"]
    assert found["clean:0"]["agree"][0].tolist() == [1] * 5
    assert found["bim@2:0.5"]["success"][2].float().mean() > 0.5


def test_processes_share_the_work_and_the_result_is_the_same(network: pcg.PCNetwork, tmp_path: Path) -> None:
    data = pictures(11)
    alone = evaluate(network, data, CONDITIONS, SETTINGS)

    class Apart(Processes):
        def wait(self) -> None:  # they run one after the other here
            pass

    for index in (2, 1):  # the first comes last, as after the barrier
        done: list[int] = []
        processes = Apart(index, 3)
        got = evaluate(
            network,
            data,
            CONDITIONS,
            SETTINGS,
            store=Store(tmp_path),
            processes=processes,
            advance=done.append,
        )
        assert got == {}
        assert sum(done) == work(11, CONDITIONS, 4, processes) == 4  # one batch of the three each
    together = evaluate(network, data, CONDITIONS, SETTINGS, store=Store(tmp_path), processes=Apart(0, 3))
    assert same(alone, together)


def test_results_that_are_missing_are_noticed(network: pcg.PCNetwork, tmp_path: Path) -> None:
    class Apart(Processes):
        def wait(self) -> None:
            pass

    with pytest.raises(InputError, match="results of 7 of 11 images"):
        evaluate(network, pictures(11), [], SETTINGS, store=Store(tmp_path), processes=Apart(0, 2))


@pytest.mark.heavy
@pytest.mark.parametrize("moment", range(1, 12, 3))
def test_an_interrupted_evaluation_goes_on_where_it_was(
    network: pcg.PCNetwork, tmp_path: Path, moment: int
) -> None:
    data = pictures(11)
    expected = evaluate(network, data, CONDITIONS, SETTINGS)
    done: list[int] = []

    def interrupt(number: int) -> None:
        done.append(number)
        if sum(done) == moment:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(network, data, CONDITIONS, SETTINGS, store=Store(tmp_path), advance=interrupt)
    half_written = tmp_path / "parts" / ".0000001.safetensors.abc.safetensors"  # as after SIGKILL
    half_written.write_bytes(b"half a fi")
    store = Store(tmp_path)
    store.read()
    again: list[int] = []
    ran = 0

    def counted(*args: object) -> object:
        nonlocal ran
        ran += 1
        return follow(*args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pcgraph.evaluation.loop.follow", counted)
        found = evaluate(network, data, CONDITIONS, SETTINGS, store=store, advance=again.append)
    assert same(found, expected)
    assert sum(again) == 12
    assert ran <= 12 - moment + 1  # a batch's clean images are run again where it was begun


def test_conditions_can_be_added_to_a_finished_evaluation(network: pcg.PCNetwork, tmp_path: Path) -> None:
    data = pictures(11)
    first = Store(tmp_path)
    first.finish(evaluate(network, data, CONDITIONS[:1], SETTINGS, store=first))
    assert not (tmp_path / "parts").exists()
    second = Store(tmp_path)
    second.read()
    found = evaluate(network, data, CONDITIONS[1:], SETTINGS, store=second)
    second.finish(found)
    expected = evaluate(network, data, CONDITIONS, SETTINGS)
    assert set(found) == set(NAMES)
    assert same({name: found[name] for name in NAMES}, expected)
    assert same(read_measured(tmp_path), found)


def test_broken_images_are_left_out_and_counted(network: pcg.PCNetwork, tmp_path: Path) -> None:
    data = pictures(9)

    class Broken:
        name, classes = data.source.name, data.source.classes

        def __len__(self) -> int:
            return 9

        def label(self, index: int) -> int:
            return data.source.label(index)

        def centred(self, index: int, *how: object) -> object:
            if index in (2, 8):
                raise InputError("the image is broken")
            return data.source.centred(index, *how)  # type: ignore[arg-type]

    broken = replace(data, source=Broken())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="broken"):
        evaluate(network, broken, [], SETTINGS)
    store = Store(tmp_path)
    found = evaluate(network, replace(broken, skip_broken=True), CONDITIONS, SETTINGS, store=store)
    assert store.broken == 2
    assert found["gaussian:1"]["index"].tolist() == [0, 1, 3, 4, 5, 6, 7]
    whole = evaluate(network, data, CONDITIONS[:1], SETTINGS)
    kept = whole["gaussian:1"]["index"] % 6 != 2
    assert found["gaussian:1"]["correct"].equal(whole["gaussian:1"]["correct"][:, kept])


def test_other_classes_are_refused(network: pcg.PCNetwork) -> None:
    data = pictures(3)
    source = replace(data.source, classes=["a", "b"], labels=[0, 1, 1])  # type: ignore[type-var]
    with pytest.raises(InputError, match="the data have 2 classes, the network answers with 10"):
        evaluate(network, replace(data, source=source), [], SETTINGS)


def test_a_process_opens_its_own_files_only(
    network: pcg.PCNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pcgraph.datasets import sources

    paths = [tmp_path / f"{number:02d}.png" for number in range(11)]
    for number, path in enumerate(paths):
        Image.new("RGB", (16, 16), (20 * number, 0, 0)).save(path)
    opened: list[str] = []
    read = sources.load_planes

    def noted(path: Path, channels: int) -> object:
        opened.append(path.name)
        return read(path, channels)

    monkeypatch.setattr(sources, "load_planes", noted)
    monkeypatch.setattr(Processes, "wait", lambda self: None)
    data = ImageData(Files("files", paths), (3, 16, 16), PREPROCESS)
    evaluate(network, data, CONDITIONS[:2], SETTINGS, store=Store(tmp_path), processes=Processes(1, 2))
    assert sorted(opened) == ["04.png", "05.png", "06.png", "07.png"]  # the second of three batches of 4
    opened.clear()
    store = Store(tmp_path)
    store.read()
    again = Processes(1, 2)
    evaluate(network, data, CONDITIONS[:2], SETTINGS, store=store, processes=again)
    assert opened == []  # what is done is not even read
