"""Configs of the published Predify package become specs."""

# ruff: noqa: E501 (texts and messages stand as a user sees them)

import json
from pathlib import Path
from typing import Any

import pytest

from pcgraph.errors import SpecError
from pcgraph.importers.predify_layers import PredictorTextError, parse_predictor
from pcgraph.importers.predify_spec import read_predify
from pcgraph.spec import Edge, PredifyDynamics, load_spec, parse_spec, to_yaml

CASES = ("chain_mean", "chain_normalized", "chain_shared", "residual_normalized")
HEAD = 'name = "Net"\ninput_size = [3, 32, 32]\n'


def read(folder: Path, text: str, name: str = "config.toml") -> Any:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return read_predify(file, "timm:resnet18")


def message(folder: Path, text: str) -> str:
    with pytest.raises(SpecError) as caught:
        read(folder, text)
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize("case", CASES)
def test_goldens(goldens: Path, case: str) -> None:
    """Nodes, gains and gradient as the data says that the published package understood them."""
    meant = json.loads((goldens / "predify" / f"{case}.json").read_text())
    spec = read_predify(goldens / "predify" / f"{case}.toml", "python:nets:chain")
    assert spec.name == f"Net_{case}"
    assert spec.backbone is not None
    assert spec.backbone.model == "python:nets:chain"
    assert spec.backbone.input == (3, 16, 16)
    names = [f"e{number + 1}" for number in range(len(meant["nodes"]))]
    assert list(spec.nodes) == names
    places = [node.module for node in spec.nodes.values()]
    assert places == [place.replace("[", ".").replace("]", "") for place in meant["nodes"]]
    edges = [edge for edge in spec.feedback if isinstance(edge, Edge)]
    assert [(edge.source, edge.target) for edge in edges] == list(zip(names, ["input", *names], strict=False))
    dynamics = spec.dynamics
    assert isinstance(dynamics, PredifyDynamics)
    assert dynamics.gradient == meant["gradient"]
    for index, name in enumerate(names):
        for gain in ("feedforward", "feedback", "error"):
            own = getattr(dynamics.nodes.get(name), gain, None)
            value = getattr(dynamics, gain) if own is None else own
            assert value == pytest.approx(meant[gain][index], rel=1e-6)
    assert spec.schedule.order == "sweep"
    if case in ("chain_shared", "residual_normalized"):
        assert all(edge.predictor == "auto" for edge in edges)
    assert parse_spec(to_yaml(spec)) == spec


def test_predictors_of_the_chain(goldens: Path) -> None:
    spec = read_predify(goldens / "predify" / "chain_mean.toml", "python:nets:chain")
    sizes = [(8, 3, 5, 1, 2), (12, 8, 4, 2, 1), (16, 12, 4, 2, 1)]
    layers = [
        {
            "ConvTranspose2d": {
                "in_channels": source,
                "out_channels": target,
                "kernel_size": [kernel] * 2,
                "stride": [stride] * 2,
                "padding": [padding] * 2,
            }
        }
        for source, target, kernel, stride, padding in sizes
    ]
    found = [edge["predictor"] for edge in spec.dump()["feedback"]]
    assert found == [[layers[0]], [layers[1], "ReLU"], [layers[2], "ReLU"]]


def test_round_trip_through_a_file(goldens: Path, tmp_path: Path) -> None:
    spec = read_predify(goldens / "predify" / "residual_normalized.toml", "timm:resnet18", weights="DEFAULT")
    file = tmp_path / "spec.yaml"
    file.write_text(to_yaml(spec), encoding="utf-8")
    assert load_spec(file) == spec
    assert spec.backbone is not None
    assert spec.backbone.weights == "DEFAULT"


def test_places_lead_into_the_config(goldens: Path) -> None:
    file = goldens / "predify" / "chain_mean.toml"
    spec = read_predify(file, "timm:resnet18")
    lines = file.read_text().splitlines()
    seen = [spec.locate(("nodes", f"e{number}")) for number in (1, 2, 3)]
    assert seen == [f"{file}:{number}:1" for number, line in enumerate(lines, 1) if line.startswith("module")]
    assert (
        spec.locate(("feedback", 1, "predictor", 0))
        == f"{file}:{lines.index('predictor' + lines[13][9:]) + 1}:1"
    )


def test_defaults(tmp_path: Path) -> None:
    spec = read(
        tmp_path,
        'input_size = [3, 32, 32]\n[[pcoders]]\nmodule = "a"\n[[pcoders]]\nmodule = "b"\nhyperparameters = {pc = 0.5}\n',
    )
    assert spec.name == "network"
    assert spec.dynamics.gradient == "mean"
    assert spec.dump()["dynamics"]["nodes"] == {
        "e1": {"feedforward": 0.3, "feedback": 0.3, "error": 0.01},
        "e2": {"feedforward": 0.3, "feedback": 0.3, "error": 0.5},
    }


def test_shared_hyperparameters_are_the_first_ones(tmp_path: Path) -> None:
    spec = read(
        tmp_path,
        HEAD + "shared_hyperparameters = true\n"
        '[[pcoders]]\nmodule = "a"\nhyperparameters = {feedforward=0.2, feedback=0.05, pc=0.02}\n'
        '[[pcoders]]\nmodule = "b"\nhyperparameters = {feedforward=0.4, feedback=0.1, pc=0.01}\n',
    )
    assert (spec.dynamics.feedforward, spec.dynamics.feedback, spec.dynamics.error) == (0.2, 0.05, 0.02)
    assert spec.dynamics.nodes == {}


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("features[1]", "features.1"),
        ("block1.conv2", "block1.conv2"),
        ("layer1[0].conv1", "layer1.0.conv1"),
        ("features[1][0]", "features.1.0"),
        ("act1", "act1"),
    ],
)
def test_modules(tmp_path: Path, written: str, name: str) -> None:
    spec = read(tmp_path, HEAD + f'[[pcoders]]\nmodule = "{written}"\n')
    assert spec.nodes["e1"].module == name


@pytest.mark.parametrize(
    "written", ["features[-1]", "features['a']", "a b", "", "f()", "[1]", "a..b", "__import__('os').x"]
)
def test_modules_that_are_none(tmp_path: Path, written: str) -> None:
    assert message(tmp_path, HEAD + f'[[pcoders]]\nmodule = "{written}"\n') == (
        f"config.toml:4:1 pcoders[0].module: '{written}' is no place in a model\n"
        "  Write attributes and indices from 0 on, for example 'layer1[0].conv1'."
    )


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("ReLU()", ["ReLU"]),
        ("nn.ReLU(True)", ["ReLU"]),
        ("torch.nn.ReLU(inplace=True)", ["ReLU"]),
        ("LeakyReLU(0.2, True)", [{"LeakyReLU": {"negative_slope": 0.2}}]),
        ("ELU(inplace=False, alpha=2)", [{"ELU": {"alpha": 2}}]),
        ("Linear(3, 4, False)", [{"Linear": {"in_features": 3, "out_features": 4, "bias": False}}]),
        ("Hardtanh(-2.0, 2)", [{"Hardtanh": {"min_val": -2.0, "max_val": 2}}]),
        ("Upsample(None, 2, mode='bilinear')", [{"Upsample": {"scale_factor": 2, "mode": "bilinear"}}]),
        ("Upsample(scale_factor=(2.0, 2.0))", [{"Upsample": {"scale_factor": [2.0, 2.0]}}]),
        ("Flatten(1)", [{"Flatten": {"start_dim": 1}}]),
        (
            "Sequential(nn.Sequential(ConvTranspose2d(2, 3, 4, 2, (1, 1), 0, 1, True), ReLU()), Sequential(Tanh()))",
            [
                {
                    "ConvTranspose2d": {
                        "in_channels": 2,
                        "out_channels": 3,
                        "kernel_size": 4,
                        "stride": 2,
                        "padding": [1, 1],
                        "output_padding": 0,
                        "groups": 1,
                        "bias": True,
                    }
                },
                "ReLU",
                "Tanh",
            ],
        ),
        ("Sequential(\n  ReLU(),\n  Tanh(),\n)", ["ReLU", "Tanh"]),
    ],
)
def test_predictor_text(text: str, layers: list[Any]) -> None:
    assert parse_predictor(text) == layers


@pytest.mark.parametrize(
    ("text", "begins", "said", "hint"),
    [
        ("ReLU", "ReLU", "expected a layer such as ReLU(), got 'ReLU'", ""),
        ("Sequential(ReLU(), Tanh)", "Tanh", "expected a layer such as ReLU(), got 'Tanh'", ""),
        ("Sequential()", "Seq", "expected at least one layer, got 'Sequential()'", ""),
        ("Sequential(*layers)", "*", "expected a layer such as ReLU(), got '*layers'", ""),
        ("Sequential(a=ReLU())", "ReLU", "expected layers alone, got 'ReLU()'", ""),
        ("ConvTransposed2d(3)", "Conv", "unknown layer 'ConvTransposed2d'", "Did you mean 'ConvTranspose2d'"),
        ("os.system('ls')", "os", "unknown layer 'os.system'", ""),
        ("__import__('os').system('ls')", "__", "unknown layer '__import__('os').system'", ""),
        ("(lambda: 0)()", "lambda", "unknown layer 'lambda: 0'", ""),
        (
            "Conv2d(8, 3, kernel=5)",
            "kernel",
            "unknown argument 'kernel' of Conv2d",
            "Did you mean 'kernel_size'?",
        ),
        ("Conv2d(8, 3, 3, kernel_size=5)", "kernel", "'kernel_size' of Conv2d is given twice", ""),
        ("Conv2d(8, 3, **options)", "**", "'**' needs a program to run", "Write the arguments out."),
        ("Tanh(3)", "3", "Tanh takes at most 0 arguments by position", ""),
        ("Linear(10, classes)", "classes", "expected a plain value, got 'classes'", ""),
        ("Linear(10, 2 * 5)", "2 * 5", "expected a plain value, got '2 * 5'", ""),
        ("Linear(10, {1: 2})", "{", "expected a plain value, got '{1: 2}'", ""),
        ("Linear(10, 3j)", "3j", "expected a plain value, got '3j'", ""),
        ("Linear(10, b'a')", "b", "expected a plain value, got 'b'a''", ""),
        ("Sequential('é', Tanh)", "'é'", "expected a layer such as ReLU(), got ''é''", ""),
    ],
)
def test_predictor_text_that_is_refused(text: str, begins: str, said: str, hint: str) -> None:
    with pytest.raises(PredictorTextError) as caught:
        parse_predictor(text)
    assert caught.value.message == said
    assert caught.value.column == text.index(begins) + 1
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize(
    "text", ["", "ReLU(", "a; b", "\0", "(" * 500 + ")" * 500, "x = 3", "1" * 5000, "-" * 50_000 + "1"]
)
def test_predictor_text_that_is_no_python(text: str) -> None:
    with pytest.raises(PredictorTextError):
        parse_predictor(text)


def test_fault_in_a_predictor_names_its_character(tmp_path: Path) -> None:
    line = 'predictor = "Sequential(ConvTranspose2d(8, 3, kernel=5), ReLU())"'
    assert message(tmp_path, HEAD + f'[[pcoders]]\nmodule = "a"\n{line}\n') == (
        f"config.toml:5:{line.index('kernel') + 1} pcoders[0].predictor: "
        "unknown argument 'kernel' of ConvTranspose2d\n  Did you mean 'kernel_size'?"
    )
    escaped = 'predictor = """\nLinear(3,\n  n)"""'
    assert message(tmp_path, HEAD + f'[[pcoders]]\nmodule = "a"\n{escaped}\n') == (
        "config.toml:5:1 pcoders[0].predictor: expected a plain value, got 'n' (character 13 of the text)"
    )


def test_value_that_does_not_fit_its_argument(tmp_path: Path) -> None:
    text = HEAD + '[[pcoders]]\nmodule = "a"\npredictor = "Linear(3, -4)"\n'
    assert message(tmp_path, text) == (
        "config.toml:5:1 feedback[0].predictor[0].Linear.out_features: expected a whole number above 0, got -4"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'name = "n"\n[[pcoders]]\nmodule = "a"\n',
            "config.toml:1:1 input_size: missing\n  Add 'input_size = [channels, height, width]'.",
        ),
        (HEAD, "config.toml:1:1 pcoders: missing\n  Add a table '[[pcoders]]' for each state."),
        (HEAD + "pcoders = []\n", "config.toml:3:1 pcoders: expected tables, got an empty list\n  Add a table '[[pcoders]]' for each state."),
        (HEAD + "pcoders = [3]\n", "config.toml:3:1 pcoders[0]: expected a table, got 3"),
        (
            HEAD + '[[pcoders]]\npredictor = "ReLU()"\n',
            "config.toml:3:1 pcoders[0].module: missing\n  Name the place in the model, for example 'features[3]'.",
        ),
        (HEAD + "[[pcoders]]\nmodule = 3\n", "config.toml:4:1 pcoders[0].module: expected text, got 3"),
        (
            HEAD + '[[pcoders]]\nmodule = "a"\npredictr = "ReLU()"\n',
            "config.toml:5:1 pcoders[0].predictr: unknown field 'predictr'\n  Did you mean 'predictor'?",
        ),
        (
            HEAD + 'gradient_scale = true\n[[pcoders]]\nmodule = "a"\n',
            "config.toml:3:1 gradient_scale: unknown field 'gradient_scale'\n  Did you mean 'gradient_scaling'?",
        ),
        (
            HEAD + 'gradient_scaling = 1\n[[pcoders]]\nmodule = "a"\n',
            "config.toml:3:1 gradient_scaling: expected true or false, got 1",
        ),
        (
            HEAD + '[[pcoders]]\nmodule = "a"\nhyperparameters = {feedforward=0.4, lambda=0.1}\n',
            "config.toml:5:1 pcoders[0].hyperparameters.lambda: unknown field 'lambda'\n"
            "  Choose from 'feedforward', 'feedback', 'pc'.",
        ),
        (
            HEAD + '[[pcoders]]\nmodule = "a"\nhyperparameters = 0.4\n',
            "config.toml:5:1 pcoders[0].hyperparameters: expected a table, got 0.4\n"
            "  For example {feedforward=0.4, feedback=0.1, pc=0.01}.",
        ),
        (
            HEAD + '[[pcoders]]\nmodule = "a"\n[[pcoders]]\nmodule = "a"\n',
            "config.toml:6:1 nodes.e2: 'e1' and 'e2' are the same place, 'a'\n  Keep one of the two.",
        ),
        (
            HEAD.replace("3, 32", '"3", 32') + '[[pcoders]]\nmodule = "a"\n',
            "config.toml:2:1 backbone.input[0]: expected a whole number, got '3'\n  Leave out the quotes.",
        ),
        ("name: n\n", "config.toml:1:5: not valid TOML: expected '=' after a key in a key/value pair"),
    ],
)  # fmt: skip
def test_faults(tmp_path: Path, text: str, expected: str) -> None:
    assert message(tmp_path, text) == expected


def test_missing_config(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        read_predify(tmp_path / "config.toml", "timm:resnet18")


def test_nothing_is_run(tmp_path: Path) -> None:
    spec = read(tmp_path, HEAD + 'imports = ["raise SystemExit"]\n[[pcoders]]\nmodule = "a"\n')
    assert list(spec.nodes) == ["e1"]
