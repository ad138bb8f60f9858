"""The candidate table and the nodes suggested from it."""

from __future__ import annotations

import json
import re

import pytest
import rich.console
import torch
import torchvision
from torch import Tensor, nn

from pcgraph.errors import InputError, ModelError
from pcgraph.tracing import Drive, Table, load_model, suggest_nodes, trace
from tests.nets import Residual, chain

CLASSIFIERS = torchvision.models.list_models(module=torchvision.models)
SMALL = [
    "alexnet",
    "convnext_tiny",
    "efficientnet_b0",
    "inception_v3",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "vgg11",
    "vit_b_16",
]


def check_classifier(name: str) -> None:
    """Costs are those that torchvision publishes, the suggestion is sound, and it can be cut there."""
    table = trace(f"torchvision:{name}")
    weights = torchvision.models.get_model_weights(name)
    published = {}
    for member in weights:
        crop = getattr(member.transforms(), "crop_size", [224])[0]
        published[crop] = member.meta["_ops"]
    assert table.total_cost / 1e9 == pytest.approx(published[table.input_shape[-1]], abs=6e-3)
    if name not in ("googlenet", "inception_v3"):  # there, auxiliary classifiers count, and never run
        assert table.total_parameters == weights.DEFAULT.meta["num_params"] or name == "vit_h_14"

    nodes = suggest_nodes(table)
    assert list(nodes) == [f"e{index}" for index in range(1, len(nodes) + 1)]
    assert 2 <= len(nodes) <= 6
    rows = [table[place] for place in nodes.values()]
    assert all(row.trunk and row.shape is not None and len(row.shape) > 1 for row in rows)
    places = [row.name for row in table]
    assert [places.index(row.name) for row in rows] == sorted(places.index(row.name) for row in rows)

    model = load_model(f"torchvision:{name}", meta=True)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    drive = Drive(model, nodes, table.input_shape)
    assert drive.order == tuple(nodes)
    assert drive.output_shape == (1000,)
    for cut, below in zip(drive.order, ["input", *drive.order], strict=False):
        assert drive.reads[cut] == (below,)  # on the trunk, each state screens off those below it
        assert drive.shapes[cut] == table[nodes[cut]].shape
    assert drive.output_reads == drive.order[-1:]
    fixed = frozenset({"input"})
    env: dict[str, object] = {"input": torch.zeros(2, *table.input_shape, device="meta")}
    env.update(drive.constants(fixed)(env))
    for stage in drive.stages([*([cut] for cut in drive.order), ["output"]], fixed):
        env.update(stage(env))
        env.update({cut: env[f"{cut}.prediction"] for cut in stage.targets if cut != "output"})
    output = env["output"]
    assert isinstance(output, Tensor)
    assert output.shape == (2, 1000)


@pytest.mark.parametrize(
    "name", [SMALL[0], *(pytest.param(name, marks=pytest.mark.heavy) for name in SMALL[1:])]
)
def test_classifier(name: str) -> None:
    check_classifier(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_of_torchvision(name: str) -> None:
    check_classifier(name)


def test_all_classifiers_are_there() -> None:
    assert len(CLASSIFIERS) >= 80
    assert set(SMALL) <= set(CLASSIFIERS)


def test_candidates_of_a_chain() -> None:
    table = trace(chain(), (3, 16, 16))
    assert table.model == "Sequential"
    assert [(row.name, row.op, row.shape, row.parameters, row.cost) for row in table] == [
        ("0", "Conv2d", (8, 16, 16), 3 * 8 * 9 + 8, 3 * 8 * 9 * 16 * 16),
        ("1", "ReLU", (8, 16, 16), 0, 0),
        ("2", "Conv2d", (12, 8, 8), 8 * 12 * 9 + 12, 8 * 12 * 9 * 8 * 8),
        ("3", "ReLU", (12, 8, 8), 0, 0),
        ("4", "Conv2d", (16, 4, 4), 12 * 16 * 9 + 16, 12 * 16 * 9 * 4 * 4),
        ("5", "ReLU", (16, 4, 4), 0, 0),
        ("6", "Flatten", (256,), 0, 0),
        ("7", "Linear", (10,), 2570, 2560),
    ]
    assert all(row.trunk and row.usable for row in table)
    assert table.total_cost == sum(row.cost for row in table)
    assert suggest_nodes(table) == {"e1": "1", "e2": "3", "e3": "5"}


def test_trunk_of_a_residual_network() -> None:
    table = trace(Residual(), (3, 16, 16))
    assert [row.name for row in table if row.trunk] == [
        "stem",
        "block1.add",
        "block1.relu_1",
        "block2.add",
        "block2.relu_1",
        "pool",
        "flatten",
        "head",
    ]
    assert suggest_nodes(table) == {"e1": "block1.relu_1", "e2": "block2.relu_1"}


def test_published_choices() -> None:
    nodes = suggest_nodes(trace("torchvision:vgg16"))
    assert list(nodes.values()) == [f"features.{index}" for index in (3, 8, 15, 22, 29)]
    nodes = suggest_nodes(trace("torchvision:resnet18"))
    assert list(nodes.values()) == ["relu", *(f"layer{i}.1.relu_1" for i in (1, 2, 3, 4))]


def test_blocks_of_a_transformer_are_spread_evenly() -> None:
    nodes = suggest_nodes(trace("torchvision:vit_b_16"))
    assert list(nodes.values()) == [f"encoder.layers.encoder_layer_{i}.add_1" for i in (2, 5, 8, 11)]


def test_channels_last() -> None:
    table = trace("torchvision:swin_t")
    shapes = [table[place].shape for place in suggest_nodes(table).values()]
    assert shapes == [(56, 56, 96), (28, 28, 192), (14, 14, 384), (7, 7, 768)]


def test_oblong_images() -> None:
    table = trace(load_model("torchvision:resnet18", meta=True), (3, 96, 224))
    shapes = [table[place].shape for place in suggest_nodes(table).values()]
    assert shapes == [(64, 48, 112), (64, 24, 56), (128, 12, 28), (256, 6, 14), (512, 3, 7)]


def test_vectors() -> None:
    model = nn.Sequential(
        nn.Linear(20, 30),
        nn.ReLU(),
        nn.Linear(30, 15),
        nn.ReLU(),
        nn.Linear(15, 15),
        nn.ReLU(),
        nn.Linear(15, 4),
    )
    assert suggest_nodes(trace(model, (20,))) == {"e1": "1", "e2": "5"}


def test_unusable_values_are_marked() -> None:
    class Chunks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            x = x - x.mean(0, keepdim=True)
            one, two = (x * self.scale.exp()).chunk(2, 1)
            return (one * two).reshape(-1, 1).sum(1).view(x.shape[0], -1)

    table = trace(Chunks(), (4, 3))
    assert {row.name: row.shape for row in table if not row.usable} == {
        "mean": None,  # one for the whole batch
        "chunk": None,
        "reshape": None,
        "sum": None,
    }
    names = [row.name for row in table]
    assert "exp" not in names  # the image never reaches it
    assert "getattr" not in names  # a size
    assert table["mul"].parameters == 0
    assert table.total_parameters == 3


def test_costs_do_not_depend_on_where_the_model_lives() -> None:
    model = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32)
    real, meta = trace(model, (3, 32, 32)), trace(model.to("meta"), (3, 32, 32))
    assert real == meta
    # Patches; per block: query, key, value and output of 16 x 16 each, two products of attention
    # over 17 x 17 tokens, and the two layers of 16 x 32; the head reads one token.
    block = 17 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 17 * 17 * 16
    assert real.total_cost == 16 * (3 * 64 * 16) + 2 * block + 16 * 1000


def test_model_is_not_changed() -> None:
    model = chain().train()
    trace(model, (3, 16, 16))
    assert model.training
    assert model[1].inplace
    assert model[0].weight.requires_grad


@pytest.mark.parametrize(
    ("ref", "shape"),
    [
        pytest.param("torchvision:inception_v3", (3, 299, 299), marks=pytest.mark.heavy),
        ("torchvision:efficientnet_b1", (3, 240, 240)),
        pytest.param("torchvision:vit_h_14", (3, 224, 224), marks=pytest.mark.heavy),
        ("torchvision:resnet50", (3, 224, 224)),
    ],
)
def test_default_input(ref: str, shape: tuple[int, ...]) -> None:
    assert trace(ref).input_shape == shape


def test_table_is_a_sequence_and_finds_names() -> None:
    table = trace(chain(), (3, 16, 16))
    assert len(table) == 8
    assert table[0] is table["0"]
    assert [row.name for row in table[1:3]] == ["1", "2"]
    with pytest.raises(InputError, match=re.escape("Residual has no node 'block1.cnv2'")) as caught:
        trace(Residual(), (3, 16, 16))["block1.cnv2"]
    assert "'block1.conv2'" in caught.value.faults[0].hint


def test_table_as_json() -> None:
    table = trace(chain(), (3, 16, 16))
    read = json.loads(json.dumps(table.to_dict()))
    assert read["model"] == "Sequential"
    assert read["input"] == [3, 16, 16]
    assert read["candidates"][0] == {
        "name": "0",
        "op": "Conv2d",
        "shape": [8, 16, 16],
        "parameters": 224,
        "cost": 55296,
        "trunk": True,
    }


def test_table_in_the_terminal() -> None:
    console = rich.console.Console(width=100)
    with console.capture() as capture:
        console.print(trace(chain(), (3, 16, 16)))
    lines = capture.get().splitlines()
    (first,) = [line for line in lines if "8x16x16" in line and "Conv2d" in line]
    assert [cell.strip() for cell in first.strip("│┃ ").split("│")] == [
        "0",
        "Conv2d",
        "8x16x16",
        "224",
        "55.3k",
    ]


def test_wrong_input_shape() -> None:
    with pytest.raises(ModelError, match=r"cannot take an input of shape \(5, 16, 16\), at '0'"):
        trace(chain(), (5, 16, 16))


def test_empty_table_suggests_nothing() -> None:
    assert suggest_nodes(Table("nothing", (3,), (), 0, 0)) == {}
