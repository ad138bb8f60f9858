"""A spec by the name of a shipped one: who wins, and what is said where nobody is meant."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pcgraph.errors import SpecError
from pcgraph.files.shipped import shipped_spec
from pcgraph.spec import Spec, as_spec, load_spec, parse_spec

OWN = """
name: own
nodes: {a: {shape: [2]}, b: {shape: [3]}}
edges: [{source: a, target: b}]
dynamics: {rule: energy}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fault(load: Callable[[], object]) -> str:
    with pytest.raises(SpecError) as caught:
        load()
    (one,) = caught.value.faults
    return str(one)


def said(name: str) -> dict[str, object]:
    """What the file of a shipped spec says, read by YAML's own reader."""
    return yaml.safe_load(shipped_spec(name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["digits", "pc_mlp", "vgg16"])
def test_a_bare_word_is_a_shipped_name(name: str):
    assert load_spec(name).name == said(name)["name"]
    assert set(load_spec(name).nodes) == set(said(name)["nodes"])


@pytest.mark.parametrize("lying", ["digits", "digits.yaml", "digits/spec.yaml"])
def test_whatever_the_folder_holds_a_bare_word_is_the_shipped_spec(folder: Path, lying: str):
    (folder / lying).parent.mkdir(exist_ok=True)
    (folder / lying).write_text(OWN)
    assert load_spec("digits").name == "digits"


def test_a_suffix_a_folder_or_a_path_object_make_it_a_file(folder: Path):
    (folder / "digits.yaml").write_text(OWN)
    for path in ("digits.yaml", "./digits.yaml", Path("digits.yaml"), str(folder / "digits.yaml")):
        assert load_spec(path).name == "own"
    assert fault(lambda: load_spec(Path("digits"))).startswith("digits: no such file")
    assert "no such file" in fault(lambda: load_spec("./vgg16"))


def test_a_word_that_is_nobody():
    assert fault(lambda: load_spec("digts")) == (
        "no such file, and no shipped spec is called 'digts'\n  Did you mean 'digits'?"
    )
    assert "parse_spec" in fault(lambda: load_spec("name: x\nnodes: {}"))


def test_extends_a_shipped_name(folder: Path):
    (folder / "mine.yaml").write_text("extends: digits\nname: mine\nschedule: {steps: 3}\n")
    mine, shipped = load_spec("mine.yaml"), load_spec("digits")
    assert (mine.name, mine.schedule.steps) == ("mine", 3)
    assert mine.backbone == shipped.backbone
    assert mine.feedback == shipped.feedback
    assert mine.weights == shipped.weights
    same = parse_spec({"extends": "digits", "name": "mine", "schedule": {"steps": 3}})
    assert same == mine


def test_a_file_that_extends_the_shipped_spec_of_its_own_name(folder: Path):
    (folder / "digits.yaml").write_text("extends: digits\nname: other\n")
    assert load_spec("digits.yaml").name == "other"
    (folder / "top.yaml").write_text("extends: digits.yaml\n")
    assert load_spec("top.yaml").name == "other"


def test_extends_nobody(folder: Path):
    (folder / "a.yaml").write_text("extends: pc_mpl\nname: a\n")
    text = fault(lambda: load_spec("a.yaml"))
    assert text.startswith("a.yaml:1:1 extends: 'pc_mpl': no such file")
    assert "'pc_mlp'" in text


def test_what_a_spec_can_be_given_as(folder: Path):
    (folder / "own.yaml").write_text(OWN)
    spec = load_spec("own.yaml")
    assert as_spec(spec) is spec
    for given in (yaml.safe_load(OWN), "own.yaml", Path("own.yaml")):
        assert isinstance(as_spec(given), Spec)
        assert as_spec(given) == spec
    assert "got int" in fault(lambda: as_spec(3))
    assert "got NoneType" in fault(lambda: as_spec(None))
