"""ImageNet-C's folders, paired with the clean images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pcgraph as pcg
from pcgraph.datasets import open_data, subset
from pcgraph.errors import InputError
from pcgraph.evaluation import Settings, evaluate
from pcgraph.evaluation.imagenet_c import from_folder
from pcgraph.spec import Preprocess
from tests.evaluation.conftest import pictures
from tests.goldens.nets import chain

WNIDS = ("n01440764", "n01443537")
PREPROCESS = Preprocess(resize=20, mean=(0.5,) * 3, std=(0.25,) * 3)


def grey(path: Path, value: int, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.full((size, size, 3), value, dtype=np.uint8)
    values[0, 0] = 255  # gone if the picture is enlarged and cropped
    Image.fromarray(values).save(path.with_suffix(".png"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Clean images of 40 pixels whose grey value is their number; corrupted crops that are brighter."""
    for number in range(6):
        place = Path(WNIDS[number % 2]) / f"ILSVRC2012_val_{number}"
        grey(tmp_path / "imagenet" / "val" / place, number, 40)
        for severity in (1, 3):
            grey(tmp_path / "c" / "weather" / "fog" / str(severity) / place, 50 * severity + number, 16)
    return tmp_path


def test_each_image_meets_its_own_corruption(tree: Path) -> None:
    clean = open_data(f"imagenet:{tree / 'imagenet'}", "test", shape=(3, 16, 16), preprocess=PREPROCESS)
    clean = subset(clean, [5, 0, 3])
    conditions = from_folder(tree / "c", clean, ["fog"], [3, 1])
    assert [(one.noise, one.level) for one in conditions] == [("fog", 3), ("fog", 1)]

    class Batch:
        indices = torch.tensor([0, 2])

    for one in conditions:
        found = one.inputs(Batch())  # type: ignore[arg-type]
        values = ((found * 0.25 + 0.5) * 255)[:, 0, 8, 8].round().tolist()
        own = [int(clean.source.paths[clean.places[place]].stem[-1]) for place in (0, 2)]  # type: ignore
        assert values == [50 * one.severity + number for number in own]
        assert (found[:, :, 0, 0] == 2).all()  # the crop is used whole


def test_it_is_evaluated_like_any_condition(tree: Path) -> None:
    torch.manual_seed(0)
    model = chain()
    model[-1] = torch.nn.Linear(256, 1000)
    spec = pcg.parse_spec(
        """
        name: small
        backbone: {input: [3, 16, 16]}
        nodes: {e1: "1", e2: "3"}
        feedback: chain
        dynamics: {rule: predify, feedforward: 0.5, feedback: 0.3, error: 0.05}
        """
    )
    network = pcg.build(spec, model=model)
    data = open_data(f"imagenet:{tree / 'imagenet'}", "test", shape=(3, 16, 16), preprocess=PREPROCESS)
    found = evaluate(network, data, from_folder(tree / "c", data, ["fog"], [1]), Settings(2, 4))
    images = torch.stack([torch.full((3, 16, 16), ((50 + n) / 255 - 0.5) / 0.25) for n in (0, 2, 4, 1, 3, 5)])
    images[:, :, 0, 0] = 2
    expected = pcg.Scheduler(network).run(images, 2).output
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    for step in range(3):
        losses = torch.nn.functional.cross_entropy(expected[step], labels, reduction="none")
        assert torch.allclose(found["fog:1"]["loss"][step], losses, atol=1e-4)


def test_faults(tree: Path) -> None:
    data = open_data(f"imagenet:{tree / 'imagenet'}", "test", shape=(3, 16, 16), preprocess=PREPROCESS)
    with pytest.raises(InputError, match="no 'fog/2' inside"):
        from_folder(tree / "c", data, ["fog"], [2])
    with pytest.raises(InputError, match=r"no 'frost/1' inside"):
        from_folder(tree / "c", data, ["frost"], [1])
    with pytest.raises(InputError, match="belongs to ImageNet, not to random"):
        from_folder(tree / "c", pictures(3), ["fog"], [1])
    next((tree / "c" / "weather" / "fog" / "1").rglob("*_4.png")).unlink()
    with pytest.raises(InputError, match="no corrupted image of 'ILSVRC2012_val_4'"):
        from_folder(tree / "c", data, ["fog"], [1])
