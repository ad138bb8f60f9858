"""Image files become what a network wants, whatever camera or program wrote them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as transforms
from PIL import Image

from pcgraph.datasets.images import denormalise, find_images, load_images, load_pixels, normalise
from pcgraph.datasets.noise import Noise, add_gaussian, salt_and_pepper
from pcgraph.errors import InputError
from pcgraph.files.shipped import photo, photos
from pcgraph.spec import Preprocess

PLAIN = Preprocess(mean=(0, 0, 0), std=(1, 1, 1))


@pytest.mark.parametrize("size", [(3, 224, 224), (3, 64, 64), (3, 299, 299), (3, 96, 128)])
def test_photographs_as_torchvision_prepares_them(size: tuple[int, int, int]) -> None:
    preprocess = Preprocess(resize=max(size) + 32)
    names, batch = next(load_images([photo("coffee")], preprocess, size))
    assert names == ["photos:coffee"]
    pipeline = transforms.Compose(
        [
            transforms.ToImage(),
            transforms.ToDtype(torch.float32, scale=True),
            transforms.Resize(max(size) + 32, antialias=True),
            transforms.CenterCrop(size[1:]),
            transforms.Normalize(preprocess.mean, preprocess.std),
        ]
    )
    with Image.open(photo("coffee")) as image:
        expected = pipeline(image)
    assert batch.shape == (1, *size)
    assert torch.allclose(batch[0], expected, atol=1e-4)


def test_a_wide_crop_is_covered(tmp_path: Path) -> None:
    Image.new("RGB", (30, 60), "white").save(tmp_path / "a.png")
    pixels = load_pixels(tmp_path / "a.png", (3, 20, 80), PLAIN)
    assert torch.equal(pixels, torch.ones(3, 20, 80))


GRADIENT = np.linspace(0, 255, 64, dtype=np.uint8).reshape(8, 8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "png"), ("RGB", "png"), ("P", "gif"), ("1", "png"), ("LA", "png"), ("RGBA", "png"),
     ("I;16", "png"), ("I", "tiff"), ("F", "tiff"), ("CMYK", "tiff"), ("YCbCr", "jpg")],
)  # fmt: skip
def test_every_mode(tmp_path: Path, mode: str, suffix: str, channels: int) -> None:
    grey = Image.fromarray(GRADIENT)
    expected = GRADIENT.astype(np.float32) / 255
    if mode == "I;16":
        image = Image.fromarray(GRADIENT.astype(np.uint16) * 257)
    elif mode == "I":
        image = Image.fromarray(GRADIENT.astype(np.int32) * 257)
    elif mode == "F":
        image = Image.fromarray(expected)
    else:
        image = grey.convert(mode) if mode != "1" else Image.fromarray(GRADIENT > 127)
        expected = (GRADIENT > 127).astype(np.float32) if mode == "1" else expected
    path = tmp_path / f"a.{suffix}"
    image.save(path)
    pixels = load_pixels(path, (channels, 8, 8), PLAIN)
    assert pixels.shape == (channels, 8, 8)
    tolerance = 0.05 if suffix == "jpg" else 1.5 / 255 if mode in ("CMYK", "P") else 1e-6
    assert np.abs(pixels.numpy() - expected).max() < tolerance


def test_eight_bits_are_divided_by_255(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = np.stack([values, values.T, values[::-1]], axis=-1)
    Image.fromarray(picture).save(tmp_path / "all.png")
    expected = torch.from_numpy(picture.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    assert torch.equal(load_pixels(tmp_path / "all.png", (3, 16, 16), PLAIN), expected)


def test_sixteen_bits_keep_their_depth(tmp_path: Path) -> None:
    Image.fromarray(np.array([[1000, 1001], [1002, 1003]], np.uint16)).save(tmp_path / "a.png")
    pixels = load_pixels(tmp_path / "a.png", (1, 2, 2), PLAIN)
    assert torch.allclose(pixels * 65535, torch.tensor([[[1000.0, 1001], [1002, 1003]]]), atol=0.01)


def test_transparent_pixels_are_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert torch.equal(load_pixels(tmp_path / "a.png", (3, 4, 4), PLAIN), torch.ones(3, 4, 4))
    Image.new("RGBA", (4, 4), (255, 0, 0, 255)).save(tmp_path / "a.png")
    assert load_pixels(tmp_path / "a.png", (3, 4, 4), PLAIN)[:, 0, 0].tolist() == [1, 0, 0]


def test_the_cameras_rotation_is_undone(tmp_path: Path) -> None:
    image = Image.new("RGB", (6, 4))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: the upper left corner goes to the upper right
    image.save(tmp_path / "a.png", exif=exif)
    pixels = load_pixels(tmp_path / "a.png", (1, 6, 4), PLAIN)
    assert pixels[0, 0, 3] > 0.9
    assert pixels.sum() == pixels[0, 0, 3]


def test_normalisation_can_be_undone_and_is_averaged_for_grey() -> None:
    pixels = torch.rand(2, 3, 4, 4)
    preprocess = Preprocess()
    normal = normalise(pixels, preprocess)
    assert torch.allclose(normal[:, 1], (pixels[:, 1] - 0.456) / 0.224)
    assert torch.allclose(denormalise(normal, preprocess), pixels, atol=1e-6)
    grey = normalise(pixels[:, :1], preprocess)
    mean, std = (0.485 + 0.456 + 0.406) / 3, (0.229 + 0.224 + 0.225) / 3
    assert torch.allclose(grey, (pixels[:, :1] - mean) / std, atol=1e-6)


def test_noise_has_the_level_that_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    zeros = torch.zeros(3, 200, 200)
    noisy = add_gaussian(zeros, 0.5, generator)
    assert noisy.std().item() == pytest.approx(0.5, rel=0.01)
    assert noisy.mean().item() == pytest.approx(0, abs=0.01)
    peppered = salt_and_pepper(torch.full((3, 200, 200), 0.5), 0.3, generator)
    assert (peppered == 0).float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert (peppered == 1).float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert torch.equal(peppered[0], peppered[1])  # all channels alike
    assert torch.equal(salt_and_pepper(zeros, 0.0, generator), zeros)


def test_noise_is_written_as_it_is_read() -> None:
    for text in ("gaussian:0.25", "salt_pepper:0.1", "gaussian:0", "salt_pepper:1"):
        assert str(Noise.parse(text)) == text


def test_salt_and_pepper_comes_before_the_normalisation() -> None:
    _, batch = next(
        load_images([photo("rocket")], Preprocess(), (3, 32, 32), noise=Noise("salt_pepper", 1.0), seed=1)
    )
    black, white = normalise(torch.zeros(3, 1, 1), Preprocess()), normalise(torch.ones(3, 1, 1), Preprocess())
    assert (torch.isclose(batch[0], black) | torch.isclose(batch[0], white)).all()


def test_folders_are_read_in_order_and_only_their_images(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("c.png", "a.JPG", "b/d.webp", "notes.txt"):
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images([str(tmp_path)])]
    assert found == ["a.JPG", "b/d.webp", "c.png"]
    assert [path.stem for path in find_images(["photos"])] == photos()


def test_batches_are_made_one_after_the_other(tmp_path: Path) -> None:
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"{number}.png")
        Image.new("L", (4, 4), number * 50).save(paths[-1])
    (tmp_path / "4.png").write_bytes(b"broken")
    batches = load_images(paths, PLAIN, (1, 4, 4), batch=2)
    sizes = [len(images) for _, images in (next(batches), next(batches))]
    assert sizes == [2, 2]
    with pytest.raises(InputError, match=r"4\.png: no image file that can be read"):
        next(batches)


@pytest.mark.parametrize("shape", [(4, 8, 8), (8,), (3, 8)])
def test_inputs_that_are_no_images(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="which no image has"):
        load_pixels(photo("coffee"), shape, PLAIN)


def test_deep_pixels_out_of_range_are_a_fault(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 300.0, np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(InputError, match=r"values from 300 to 300, expected 0 to 1"):
        load_pixels(tmp_path / "a.tiff", (1, 4, 4), PLAIN)
