"""hypothesis strategies for valid specs, as plain values."""

import keyword
from typing import Any

from hypothesis import strategies as st

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True).filter(
    lambda name: not keyword.iskeyword(name) and name != "input"
)
words = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
spec_names = st.one_of(
    words.filter(lambda name: name.strip() and not set("/\\") & set(name) and name not in (".", "..")),
    st.sampled_from(
        ["no", "1e-3", "null", "true", "2024-01-01", "0x1F", "12:30", "- a", "a: b", "#", "~", "<<"]
    ),
)
shares = st.floats(0, 0.5)
positive = st.floats(1e-6, 1e6)
errors = st.one_of(positive, st.just("auto"))
natural = st.integers(0, 5)
shapes = st.lists(st.integers(1, 512), min_size=1, max_size=3)
layers = st.one_of(
    st.sampled_from(["ReLU", "Linear", "Flatten", "Identity"]),
    st.fixed_dictionaries(
        {
            "ConvTranspose2d": st.fixed_dictionaries(
                {"kernel_size": st.integers(1, 9)},
                optional={"padding": st.lists(natural, min_size=2, max_size=2), "bias": st.booleans()},
            )
        }
    ),
    st.fixed_dictionaries(
        {"Conv2d": st.fixed_dictionaries({"padding": st.sampled_from(["same", "valid", 2])})}
    ),
    st.fixed_dictionaries({"LeakyReLU": st.fixed_dictionaries({"negative_slope": st.floats(1e-8, 1)})}),
)
predictors = st.one_of(
    st.just("auto"), st.just("python:nets.models:Net"), st.lists(layers, min_size=1, max_size=3)
)

levels = st.one_of(shares, st.just([0.25, 0.75]))
tunings = st.fixed_dictionaries(
    {},
    optional={
        "data": st.just("digits"),
        "noise": st.fixed_dictionaries(
            {}, optional={"gaussian": levels, "salt_pepper": levels, "clean": shares}
        ),
        "steps": st.one_of(st.integers(1, 9), st.just([2, 12])),
        "loss": st.sampled_from(["every", "last"]),
        "shared": st.booleans(),
        "learns": st.sampled_from([["dynamics", "predictors"], ["edges"], ["dynamics", "edges"]]),
        "save_memory": st.booleans(),
    },
)
trainings = st.fixed_dictionaries(
    {},
    optional={
        "data": st.sampled_from(["digits", "folder:some/where", "cifar10"]),
        "epochs": st.integers(1, 90),
        "batch": st.integers(1, 512),
        "optimizer": st.one_of(
            st.fixed_dictionaries(
                {"name": st.just("SGD")},
                optional={"lr": positive, "momentum": shares, "nesterov": st.booleans()},
            ),
            st.fixed_dictionaries({}, optional={"betas": st.lists(shares, min_size=2, max_size=2)}),
        ),
        "schedule": st.one_of(
            st.fixed_dictionaries({"kind": st.just("cosine")}, optional={"warmup": positive}),
            st.fixed_dictionaries({"kind": st.just("step")}, optional={"every": st.just(2)}),
        ),
        "clip": positive,
        "precision": st.sampled_from(["float32", "bfloat16"]),
        "validation": shares,
        "task": st.sampled_from(["feedback", "through_time"]),
        "learns": st.just(["predictors"]),
        "augment": st.fixed_dictionaries({"crop": st.just([0.5, 1.0])}, optional={"flip": st.booleans()}),
        "loss": st.fixed_dictionaries({}, optional={"reconstruction": positive, "at": st.just("last")}),
        "rule": st.sampled_from(["il", "zil"]),
    },
)


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """A valid spec, with or without a backbone, under either rule."""
    nodes = draw(st.lists(names, min_size=2, max_size=6, unique=True))
    backbone = draw(st.booleans())
    energy = draw(st.booleans())
    spec: dict[str, Any] = {"name": draw(spec_names)}
    if backbone:
        spec["backbone"] = draw(
            st.fixed_dictionaries(
                {"model": st.sampled_from(["torchvision:vgg16", "timm:resnet18", "python:nets:chain"])},
                optional={
                    "weights": st.sampled_from(
                        [
                            "DEFAULT",
                            "weights/a.pth",
                            "~/of: mine $X.ckpt",
                            "package:some/file.safetensors",
                            {"file": "a b.ckpt"},
                            {"file": "$a/b.ckpt", "part": "ema", "sha256": "0" * 64},
                        ]
                    ),
                    "match": st.sampled_from(["name", "order"]),
                    "arguments": st.dictionaries(
                        names, st.one_of(st.booleans(), st.integers(), st.floats(-1, 1))
                    ),
                    "preprocess": st.fixed_dictionaries({}, optional={"resize": st.integers(224, 512)}),
                },
            )
        )
    spec["nodes"] = {
        name: draw(
            st.sampled_from([f"features.{index}", {"module": f"layer.{index}", "delay": draw(natural)}])
        )
        if backbone and index < 2
        else {"shape": draw(shapes)}
        for index, name in enumerate(nodes)
    }
    pairs = draw(st.lists(st.tuples(*[st.sampled_from(nodes)] * 2), unique=True, min_size=1, max_size=6))
    edges = [_edge(draw, pair, energy) for pair in pairs]
    cut = draw(st.integers(1, len(edges)))
    spec["edges"] = edges[:cut]
    pattern = st.one_of(
        st.sampled_from(["chain", "to_input", "dense"]), st.fixed_dictionaries({"skip": st.integers(1, 3)})
    )
    patterns = draw(st.lists(pattern, max_size=2))
    spec["feedback"] = draw(st.permutations([*edges[cut:], *patterns]))
    if energy:
        rates = st.fixed_dictionaries({"rate": positive})
        spec["dynamics"] = {"rule": "energy", "rate": draw(positive), "nodes": _some(draw, nodes, rates)}
    elif draw(st.booleans()):
        gains = st.fixed_dictionaries(
            {}, optional={"feedforward": shares, "feedback": shares, "error": errors}
        )
        spec["dynamics"] = {
            **draw(gains),
            "gradient": draw(st.sampled_from(["sum", "mean", "normalized"])),
            "nodes": _some(draw, nodes, gains),
        }
    spec["schedule"] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "order": st.sampled_from(["synchronous", "sweep"]),
                "steps": natural,
                "initial": st.sampled_from(["feedforward", "zeros", "normal"]),
                "tolerance": positive,
            },
        )
    )
    free = [name for name in nodes[1:] if "shape" in spec["nodes"][name]]
    if free and draw(st.booleans()):
        spec["schedule"]["initial"] = "amortised"
        guessed = draw(st.lists(st.sampled_from(free), min_size=1, unique=True))
        spec["start"] = [
            {
                "source": draw(st.sampled_from([name for name in nodes if name not in guessed[i:]])),
                "target": target,
                **draw(st.fixed_dictionaries({}, optional={"predictor": predictors})),
            }
            for i, target in enumerate(guessed)
        ]
    if draw(st.booleans()):
        train = draw(trainings)
        task = train.get("task", "energy" if energy else "feedback")
        other = {"feedback": ("loss", "rule"), "through_time": ("rule",), "energy": ("loss",)}[task]
        spec["train"] = {name: value for name, value in train.items() if name not in other}
    if spec.get("dynamics", {}).get("rule") != "energy" and draw(st.booleans()):
        spec["tune"] = draw(tunings)
    return spec


def _edge(draw: st.DrawFn, pair: tuple[str, str], energy: bool) -> dict[str, Any]:
    fields: dict[str, st.SearchStrategy[Any]] = {"predictor": predictors, "delay": natural}
    fields |= {"precision": positive} if energy else {"gain": positive, "error": errors, "reach": positive}
    source: Any = [pair[0]] if draw(st.booleans()) else pair[0]
    return {"source": source, "target": pair[1], **draw(st.fixed_dictionaries({}, optional=fields))}


def _some(draw: st.DrawFn, nodes: list[str], values: st.SearchStrategy[Any]) -> dict[str, Any]:
    return {name: draw(values) for name in draw(st.lists(st.sampled_from(nodes), unique=True))}
