"""The drive against the untouched models, and against cuts written by hand."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from pcgraph.errors import ModelError, SpecError
from pcgraph.tracing import Drive, load_model, suggest_nodes, symbolic_trace, trace
from tests.nets import INPLACE, DictOutput, Residual, Shared, TupleOutput, chain, settled

IMAGE = frozenset({"input"})
RESIDUAL = {"e1": "stem", "e2": "block1.conv2", "e3": "block2.conv2"}
CHAIN = {"e1": "1", "e2": "3", "e3": "5"}


def run(drive: Drive, env: dict[str, Any], groups: list[list[str]], fixed: frozenset[str] = IMAGE) -> None:
    """Put the constants into the environment, then run the stages; the states stay as they are."""
    env.update(drive.constants(fixed)(env))
    for stage in drive.stages(groups, fixed):
        env.update(stage(env))


def sweep(drive: Drive, image: Tensor, fixed: frozenset[str] = IMAGE) -> dict[str, Any]:
    """The feedforward start: every state becomes its prediction, from the image up."""
    env: dict[str, Any] = {"input": image}
    env.update(drive.constants(fixed)(env))
    for stage in drive.stages([*([cut] for cut in drive.order), ["output"]], fixed):
        result = stage(env)
        assert tuple(result) == stage.gives
        env.update(result)
        env.update({cut: env[f"{cut}.prediction"] for cut in stage.targets if cut != "output"})
    return env


def hand_cut(model: Residual, env: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Residual, cut at stem, block1.conv2 and block2.conv2, written out."""
    one, two = model.block1, model.block2
    inside = torch.relu(one.bn1(one.conv1(env["e1"])))
    first = torch.relu(one.bn2(env["e2"]) + one.down(env["e1"]))
    second = torch.relu(two.bn2(env["e3"]) + two.down(first))
    return {
        "e1.prediction": model.stem(env["input"]),
        "e2.prediction": one.conv2(inside),
        "e3.prediction": two.conv2(torch.relu(two.bn1(two.conv1(first)))),
        "output": model.head(torch.flatten(model.pool(second), 1)),
    }


@pytest.fixture
def residual() -> Residual:
    model = settled(Residual())
    assert isinstance(model, Residual)
    return model


@pytest.fixture
def states() -> dict[str, Tensor]:
    """States of the cut Residual that are nobody's prediction."""
    return {
        "input": torch.randn(2, 3, 16, 16),
        "e1": torch.randn(2, 8, 16, 16),
        "e2": torch.randn(2, 8, 16, 16),
        "e3": torch.randn(2, 16, 8, 8),
    }


# the start equals the plain network ----------------------------------------------------------------

MODELS: list[Any] = [
    ("torchvision:resnet18", {}),
    pytest.param("torchvision:efficientnet_b0", {}, marks=pytest.mark.heavy),
    pytest.param("torchvision:densenet121", {}, marks=pytest.mark.heavy),
    pytest.param("torchvision:mobilenet_v3_small", {}, marks=pytest.mark.heavy),
    pytest.param("torchvision:shufflenet_v2_x0_5", {}, marks=pytest.mark.heavy),
    pytest.param("torchvision:swin_t", {}, marks=pytest.mark.heavy),
    # small ones of their kind stand below and in test_timm.py
    pytest.param("torchvision:convnext_tiny", {}, marks=pytest.mark.slow),
    pytest.param("torchvision:vit_b_16", {"image_size": 64}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("ref", "arguments"), MODELS)
@torch.no_grad()
def test_start_is_the_plain_network(ref: str, arguments: dict[str, Any]) -> None:
    model = settled(load_model(ref, arguments=arguments))
    table = trace(model, (3, 64, 64))
    everywhere = {f"n{index}": row.name for index, row in enumerate(table) if row.usable}
    image = torch.randn(1, 3, 64, 64)
    expected = model(image)
    for nodes in (suggest_nodes(table), everywhere):
        env = sweep(Drive(model, nodes, (3, 64, 64)), image)
        assert torch.equal(env["output"], expected)
        assert all(env[name].shape[1:] == table[nodes[name]].shape for name in nodes)


def test_vision_transformer_with_few_layers() -> None:
    model = torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32).eval()
    nn.init.normal_(model.heads.head.weight)  # zero when new, which would hide everything
    nodes = {f"n{i}": row.name for i, row in enumerate(trace(model, (3, 32, 32))) if row.usable}
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(sweep(Drive(model, nodes, (3, 32, 32)), image)["output"], model(image))


def test_start_without_cuts(residual: Residual) -> None:
    image = torch.randn(2, 3, 16, 16)
    assert torch.equal(sweep(Drive(residual, {}, (3, 16, 16)), image)["output"], residual(image))


# the cut -------------------------------------------------------------------------------------------


def test_what_is_read(residual: Residual) -> None:
    drive = Drive(residual, RESIDUAL, (3, 16, 16))
    assert drive.order == ("e1", "e2", "e3")
    assert drive.nodes == RESIDUAL
    assert drive.reads == {"e1": ("input",), "e2": ("e1",), "e3": ("e1", "e2")}
    assert drive.output_reads == ("e1", "e2", "e3")
    assert drive.output_shape == (10,)
    assert drive.shapes == {"input": (3, 16, 16), "e1": (8, 16, 16), "e2": (8, 16, 16), "e3": (16, 8, 8)}


def test_order_is_that_of_execution(residual: Residual) -> None:
    drive = Drive(residual, {"top": "block2.conv2", "bottom": "stem"}, (3, 16, 16))
    assert drive.order == tuple(drive.nodes) == tuple(drive.reads) == ("bottom", "top")
    assert tuple(drive.shapes) == ("input", "bottom", "top")


@pytest.mark.parametrize(
    "groups",
    [
        [["e1", "e2", "e3"], ["output"]],
        [["e1"], ["e2"], ["e3"], ["output"]],
        [["output"], ["e3"], ["e2"], ["e1"]],
        [["e3", "output"], ["e1", "e2"]],
        [["e1", "e2", "e3", "output"]],
    ],
)
@pytest.mark.parametrize("fixed", [frozenset(), IMAGE, IMAGE | {"e1"}, IMAGE | {"e1", "e2", "e3"}])
def test_predictions_are_those_written_by_hand(
    residual: Residual, states: dict[str, Tensor], groups: list[list[str]], fixed: frozenset[str]
) -> None:
    env: dict[str, Any] = dict(states)
    run(Drive(residual, RESIDUAL, (3, 16, 16)), env, groups, fixed)
    expected = hand_cut(residual, states)
    for key, value in expected.items():
        assert torch.equal(env[key], value), key
    for name, value in states.items():
        assert env[name] is value


def test_synchronous_stages_then_output_with_new_states(
    residual: Residual, states: dict[str, Tensor]
) -> None:
    """What e3's stage computed from the old e1 and e2 must not reach the output of the new ones."""
    drive = Drive(residual, RESIDUAL, (3, 16, 16))
    env: dict[str, Any] = dict(states)
    env.update(drive.constants(IMAGE)(env))
    together, head = drive.stages([["e1", "e2", "e3"], ["output"]], IMAGE)
    env.update(together(env))
    new = {name: torch.randn_like(states[name]) for name in drive.order}
    env.update(new)
    env.update(head(env))
    assert torch.equal(env["output"], hand_cut(residual, {**states, **new})["output"])


def test_sweep_reads_new_states(residual: Residual, states: dict[str, Tensor]) -> None:
    drive = Drive(residual, RESIDUAL, (3, 16, 16))
    env: dict[str, Any] = dict(states)
    env.update(drive.constants(IMAGE)(env))
    by_hand = dict(states)
    for stage in drive.stages([["e1"], ["e2"], ["e3"], ["output"]], IMAGE):
        env.update(stage(env))
        for target in stage.targets:
            key = "output" if target == "output" else f"{target}.prediction"
            assert torch.equal(env[key], hand_cut(residual, by_hand)[key])
            if target != "output":
                env[target] = by_hand[target] = torch.randn_like(states[target])


def test_module_called_twice() -> None:
    model = settled(Shared())
    drive = Drive(model, {"first": "conv", "second": "conv_1"}, (3, 8, 8))
    env: dict[str, Any] = {name: torch.randn(2, 3, 8, 8) for name in ("input", "first", "second")}
    run(drive, env, [["first", "second", "output"]])
    assert torch.equal(env["first.prediction"], model.conv(env["input"]))
    assert torch.equal(env["second.prediction"], model.conv(torch.relu(env["first"])))
    assert torch.equal(env["output"], model.head(torch.relu(env["second"]).mean((2, 3))))


def test_one_tensor_is_the_output() -> None:
    image = torch.randn(2, 3, 8, 8)
    model = settled(TupleOutput())
    drive = Drive(model, {"e1": "conv"}, (3, 8, 8))
    assert torch.equal(sweep(drive, image)["output"], model(image)[0])
    assert drive.output_shape == (4,)

    nested = settled(DictOutput())
    for wanted, expected in ((None, nested(image)["out"]), ("more", nested(image)["more"][0])):
        drive = Drive(nested, {"e1": "conv"}, (3, 8, 8), output=wanted)
        assert torch.equal(sweep(drive, image)["output"], expected)


def test_cut_at_the_output() -> None:
    drive = Drive(chain(), {**CHAIN, "top": "7"}, (3, 16, 16))
    assert drive.output_reads == ("top",)
    top = torch.randn(2, 10)
    env: dict[str, Any] = {"input": torch.randn(2, 3, 16, 16), "top": top}
    run(drive, env, [["output"]])
    assert env["output"] is top


def test_asking_for_a_size_is_no_reading() -> None:
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return torch.relu(y).view(x.size(0), y.shape[1], -1).mean(-1)

    model = Sized().eval()
    drive = Drive(model, {"e1": "conv", "e2": "relu"}, (3, 8, 8))
    assert drive.reads == {"e1": ("input",), "e2": ("e1",)}
    assert drive.output_reads == ("e2",)
    image = torch.randn(2, 3, 8, 8)
    assert torch.equal(sweep(drive, image)["output"], model(image))
    assert torch.equal(sweep(drive, image, frozenset())["output"], model(image))


# in place ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", INPLACE, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("cut", [False, True])
@torch.no_grad()
def test_in_place_operations_mean_the_same(kind: type[nn.Module], cut: bool) -> None:
    model = kind().eval()
    image = torch.randn(2, 3, 6, 6)
    expected = model(image.clone())
    drive = Drive(model, {"e1": "conv"} if cut else {}, (3, 6, 6))
    kept = image.clone()
    env = sweep(drive, image)
    assert torch.equal(env["output"], expected)
    assert torch.equal(image, kept)
    if cut:
        state = torch.randn_like(env["e1"])
        kept = state.clone()
        run(drive, {"input": image, "e1": state}, [["e1"], ["output"]])
        assert torch.equal(state, kept)


class ThroughView(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(x)
        y.view(-1).add_(1)
        return y


class ViewTakenBefore(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(x)
        z = y.flatten(1)
        y.mul_(2)
        return z


@pytest.mark.parametrize("kind", [ThroughView, ViewTakenBefore])
def test_in_place_and_views(kind: type[nn.Module]) -> None:
    """What changes a view changes the tensor, and the other way round."""
    image = torch.randn(2, 3, 4, 4)
    drive = Drive(kind(), {"e1": "relu"}, (3, 4, 4))
    env = sweep(drive, image)
    assert torch.equal(env["output"], kind()(image))
    assert torch.equal(env["e1"], torch.relu(image))
    with pytest.raises(ModelError, match=r"changes '.*' in place, and with it"):
        symbolic_trace(kind())


def test_the_callers_model_is_not_changed() -> None:
    model = chain().train()
    before = copy.deepcopy(model.state_dict())
    drive = Drive(model, CHAIN, (3, 16, 16))
    sweep(drive, torch.randn(2, 3, 16, 16))
    drive.double()
    assert model.training
    assert all(module.inplace for module in model if isinstance(module, nn.ReLU))
    assert all(parameter.requires_grad for parameter in model.parameters())
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(
        torch.equal(after[name], before[name]) and after[name].dtype == torch.float32 for name in before
    )


# how often things are computed ---------------------------------------------------------------------


def count_calls(drive: Drive) -> dict[str, int]:
    calls: dict[str, int] = {}
    for name, module in drive.model.named_modules():
        if not list(module.children()):

            def count(*_: object, name: str = name) -> None:
                calls[name] = calls.get(name, 0) + 1

            module.register_forward_hook(count)
    return calls


def test_constants_hold_the_prefix_and_the_head_waits(residual: Residual, states: dict[str, Tensor]) -> None:
    drive = Drive(residual, {"e2": "block1.conv2", "e3": "block2.conv2"}, (3, 16, 16))
    calls = count_calls(drive)
    env: dict[str, Any] = {name: states[name] for name in ("input", "e2", "e3")}
    env.update(drive.constants(IMAGE)(env))
    prefix = {
        "stem": 1,
        "block1.conv1": 1,
        "block1.bn1": 1,
        "block1.relu": 1,
        "block1.conv2": 1,
        "block1.down": 1,
    }
    assert calls == prefix
    stages = drive.stages([["e2", "e3"]], IMAGE)
    for _ in range(3):
        for stage in stages:
            env.update(stage(env))
    block1 = {"block1.bn2": 3, "block1.relu": 4}  # the residual sum, once a step
    block2 = {"block2.conv1": 3, "block2.bn1": 3, "block2.relu": 3, "block2.conv2": 3}
    assert calls == {**prefix, **block1, **block2}
    env.update(drive.stages([["output"]], IMAGE)[0](env))
    assert calls["head"] == 1


def test_shared_trunk_is_computed_once(residual: Residual) -> None:
    drive = Drive(residual, {"a": "block2.conv1", "b": "block2.down"}, (3, 16, 16))
    calls = count_calls(drive)
    sweep(drive, torch.randn(1, 3, 16, 16), frozenset())
    assert calls == {
        **dict.fromkeys(
            ["stem", "block1.conv1", "block1.bn1", "block1.conv2", "block1.bn2", "block1.down"], 1
        ),
        **dict.fromkeys(["block2.conv1", "block2.bn1", "block2.conv2", "block2.bn2", "block2.down"], 1),
        **dict.fromkeys(["block1.relu", "block2.relu"], 2),
        **dict.fromkeys(["pool", "head"], 1),
    }


def test_clamped_cut_makes_what_it_feeds_constant(residual: Residual, states: dict[str, Tensor]) -> None:
    drive = Drive(residual, RESIDUAL, (3, 16, 16))
    assert set(drive.constants(IMAGE).gives) == {"e1.prediction"}
    gives = set(drive.constants(IMAGE | {"e1", "e2"}).gives)
    assert {"e1.prediction", "e2.prediction", "e3.prediction"} <= gives
    assert "output" not in gives
    (stage,) = drive.stages([["output"]], IMAGE | {"e1", "e2"})
    assert set(stage.takes) == {"e3", "block2_down.value"}
    assert "output" in drive.constants(IMAGE | {"e1", "e2", "e3"}).gives


def test_unknown_target() -> None:
    with pytest.raises(ValueError, match="no such targets"):
        Drive(chain(), CHAIN, (3, 16, 16)).stages([["e9"]], IMAGE)


# a module like any other ---------------------------------------------------------------------------


def test_stages_follow_dtype_and_weights(residual: Residual, states: dict[str, Tensor]) -> None:
    drive = Drive(residual, RESIDUAL, (3, 16, 16))
    groups = [["e1", "e2", "e3", "output"]]
    (stage,) = drive.stages(groups, frozenset())
    drive.double()
    other = settled(Residual())
    drive.model.load_state_dict(other.state_dict())
    doubles = {name: value.double() for name, value in states.items()}
    expected = hand_cut(other.double(), doubles)  # type: ignore[arg-type]
    for key, value in stage({**doubles, **drive.constants(frozenset())({})}).items():
        assert torch.equal(value, expected[key])


def test_stays_in_eval_mode(residual: Residual) -> None:
    class Owner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drive = Drive(residual, RESIDUAL, (3, 16, 16))

    owner = Owner().train()
    assert owner.training
    assert not any(module.training for module in owner.drive.modules())


@pytest.mark.parametrize("again", [copy.deepcopy, lambda drive: pickle.loads(pickle.dumps(drive))])
def test_copies_and_pickles(residual: Residual, states: dict[str, Tensor], again: Any) -> None:
    drive = Drive(residual, RESIDUAL, (3, 16, 16))
    run(drive, dict(states), [["e1", "e2", "e3", "output"]])
    other = again(drive)
    with torch.no_grad():
        for parameter in drive.parameters():
            parameter.zero_()
    env: dict[str, Any] = dict(states)
    run(other, env, [["e1", "e2", "e3", "output"]])
    for key, value in hand_cut(residual, states).items():
        assert torch.equal(env[key], value)
    assert list(other.state_dict()) == list(drive.state_dict())


def test_state_dict_is_the_models(residual: Residual) -> None:
    drive = Drive(residual, RESIDUAL, (3, 16, 16))
    assert [name.removeprefix("model.") for name in drive.state_dict()] == list(residual.state_dict())


def test_gradients_are_those_of_autograd(residual: Residual, states: dict[str, Tensor]) -> None:
    residual.double()
    drive = Drive(residual, RESIDUAL, (3, 16, 16))
    ours = {name: value.double().requires_grad_() for name, value in states.items()}
    theirs = {name: value.detach().clone().requires_grad_() for name, value in ours.items()}
    env: dict[str, Any] = dict(ours)
    run(drive, env, [["e1", "e2", "e3", "output"]], frozenset())
    expected = hand_cut(residual, theirs)
    weights = {key: torch.randn_like(value) for key, value in expected.items()}
    sum((env[key] * weights[key]).sum() for key in weights).backward()
    sum((expected[key] * weights[key]).sum() for key in weights).backward()
    for name, value in ours.items():
        assert value.grad is not None
        torch.testing.assert_close(value.grad, theirs[name].grad, rtol=1e-12, atol=1e-12)


def test_input_gradient_is_the_models() -> None:
    model = chain().double().eval()
    image = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    ours, theirs = image.clone().requires_grad_(), image.clone().requires_grad_()
    env = sweep(Drive(model, CHAIN, (3, 16, 16)), ours, frozenset())
    env["output"].square().sum().backward()
    model(theirs).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)


def test_stages_compile_into_one_graph(residual: Residual, states: dict[str, Tensor]) -> None:
    drive = Drive(residual, RESIDUAL, (3, 16, 16))
    (stage,) = drive.stages([["e1", "e2", "e3", "output"]], frozenset())
    compiled = torch.compile(lambda env: stage(env), backend="eager", fullgraph=True)
    for key, value in compiled(states).items():
        torch.testing.assert_close(value, hand_cut(residual, states)[key])


def test_code_names_states_and_predictions(residual: Residual) -> None:
    code = Drive(residual, RESIDUAL, (3, 16, 16)).code
    assert code.startswith("def forward(self, input, e1, e2, e3):")
    assert "'e1': stem, 'e2': block1_conv2, 'e3': block2_conv2, 'output': head" in code


# faults --------------------------------------------------------------------------------------------


class Odd(nn.Module):
    """Has a parameter, a tuple, a value without batch and one with nothing else among its nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bias = nn.Parameter(torch.ones(1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x) + self.bias.exp()
        a, b = y.chunk(2, 1)
        folded = (a * b).reshape(-1, 2)
        return folded.sum(1).view(x.shape[0], -1) + y.mean((1, 2, 3))[:, None]


def test_all_faults_at_once() -> None:
    nodes = {
        "a": "conv",
        "again": "conv",
        "typo": "comv",
        "none": "zzzzzz",
        "tuple": "chunk",
        "number": "getattr",
        "parameter": "exp",
        "folded": "reshape",
        "scalar": "mean",
        "image": "x",
        "input": "add",
    }
    with pytest.raises(SpecError) as caught:
        Drive(Odd(), nodes, (3, 6, 6))
    faults = {fault.path: (fault.message, fault.hint) for fault in caught.value.faults}
    assert set(faults) == {("nodes", name) for name in nodes if name != "a"}
    message = {str(path[1]): text for path, (text, _) in faults.items()}
    assert message["again"] == "'again' is at the same place as 'a': 'conv'"
    assert message["typo"] == "the model has no node 'comv'"
    assert faults["nodes", "typo"][1] == "Did you mean 'conv'?"
    assert message["none"] == "the model has no node 'zzzzzz'"
    assert faults["nodes", "none"][1].startswith("Choose from 'conv'")
    assert message["tuple"] == "the value of 'chunk' is no tensor but a tuple"
    assert message["number"] == "the value of 'getattr' is no tensor but a Size"
    assert message["parameter"] == "the input never reaches 'exp': its value is the same for every image"
    assert message["folded"] == "the value of 'reshape' has no batch dimension in front"
    expected = "the value of 'mean' is one number an image, without a dimension besides the batch"
    assert message["scalar"] == expected
    assert message["image"] == "'x' is the image itself"
    assert message["input"] == "the name 'input' is taken: it means the network's input"


def test_module_names_mean_their_last_operation(residual: Residual) -> None:
    drive = Drive(residual, {"e1": "block1", "e2": "block2"}, (3, 16, 16))
    assert drive.nodes == {"e1": "block1.relu_1", "e2": "block2.relu_1"}


def test_input_that_does_not_fit() -> None:
    with pytest.raises(ModelError, match=r"cannot take an input of shape \(1, 16, 16\), at '0'"):
        Drive(chain(), CHAIN, (1, 16, 16))
    with pytest.raises(ModelError, match=r"cannot take an input of shape \(3, 8, 8\), at '7'"):
        Drive(chain(), CHAIN, (3, 8, 8))
