"""Specs that are wrong, and what a user should be told.

Every expectation was written by hand: the place, the field, what was given, what was expected, and
the way out.
"""

# ruff: noqa: E501 (texts and messages stand as a user sees them)

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    name: str
    text: str
    expected: str
    suffix: str = ".yaml"

    @property
    def file(self) -> str:
        return f"spec{self.suffix}"


# Three lines that are right; what is wrong comes on line 4.
VGG = """\
name: demo
backbone: {model: torchvision:vgg16}
nodes: {e1: features.3, e2: features.8}
"""
FREE = """\
name: demo
nodes: {a: {shape: [4]}, b: {shape: [3]}, c: {shape: [2]}}
edges: [{source: a, target: b}, {source: b, target: c}]
"""

FILES = [
    Case("empty", "", "spec.yaml: empty; a spec is a mapping of fields"),
    Case("only a comment", "# nothing yet\n", "spec.yaml: empty; a spec is a mapping of fields"),
    Case("empty JSON", " \n", "spec.json: empty; a spec is a mapping of fields", ".json"),
    Case("empty TOML", "# nothing\n", "spec.toml: empty; a spec is a mapping of fields", ".toml"),
    Case(
        "a list",
        "- name: demo\n",
        "spec.yaml:1:1: expected a mapping of fields, got a list\n"
        "  A spec starts with lines such as 'name: NAME'.",
    ),
    Case(
        "a single value",
        "\nvgg16\n",
        "spec.yaml:2:1: expected a mapping of fields, got a single value\n"
        "  A spec starts with lines such as 'name: NAME'.",
    ),
    Case(
        "two documents",
        "name: demo\n---\nname: other\n",
        "spec.yaml:2:1: a second document starts here; a spec file holds one\n  Remove the '---'.",
    ),
    Case(
        "tab",
        "name: demo\nnodes:\n\te1: features.3\n",
        "spec.yaml:3:1: not valid YAML: a tab\n  Indent with spaces.",
    ),
    Case(
        "colon in text",
        "name: demo: one\n",
        "spec.yaml:1:11: not valid YAML: an unexpected ':'\n"
        "  Is the line above unfinished, or does a text with ': ' lack its quotes?",
    ),
    Case(
        "open bracket",
        "name: demo\nnodes: {e1: features.3\nfeedback: chain\n",
        "spec.yaml:3:9: not valid YAML: while parsing a flow mapping that begins on line 2, "
        "expected ',' or '}', but got ':'",
    ),
    Case(
        "duplicate key",
        VGG + "name: again\n",
        "spec.yaml:4:1 name: 'name' is given twice, first on line 1\n  Keep one of the two.",
    ),
    Case(
        "duplicate node",
        "name: demo\nbackbone: {model: torchvision:vgg16}\nnodes:\n  e1: features.3\n  e2: features.8\n"
        "  e1: features.15\n",
        "spec.yaml:6:3 nodes.e1: 'e1' is given twice, first on line 4\n  Keep one of the two.",
    ),
    Case(
        "key that is a list",
        "[a, b]: 3\n",
        "spec.yaml:1:1: the key of a field must be text",
    ),
    Case(
        "tag",
        VGG + "weights: !!python/object/apply:os.system [ls]\n",
        "spec.yaml:4:10 weights: the tag '!!python/object/apply:os.system' is not part of the spec language\n"
        "  Tags are never run; write a plain value.",
    ),
    Case(
        "own tag",
        VGG + "weights: !include other.yaml\n",
        "spec.yaml:4:10 weights: the tag '!include' is not part of the spec language\n"
        "  Tags are never run; write a plain value.",
    ),
    Case(
        "alias of itself",
        "name: demo\nnodes: &nodes\n  e1: *nodes\n",
        "spec.yaml:2:8: an alias contains itself, in 'nodes.e1'\n  Write the value out.",
    ),
    Case(
        "unknown alias",
        "name: *demo\n",
        "spec.yaml:1:7: not valid YAML: found undefined alias 'demo'",
    ),
    Case(
        "billion laughs",
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "spec.yaml: more than 100000 values (aliases written out); this is no spec",
    ),
    Case(
        "nested too deeply",
        "name: " + "[" * 50 + "]" * 50 + "\n",
        "spec.yaml:1:47: nested more than 40 levels deep; a spec has about ten",
    ),
    Case(
        "nested far too deeply",
        "name: " + "[" * 5000 + "]" * 5000 + "\n",
        "spec.yaml: nested more than 40 levels deep; a spec has about ten",
    ),
    Case(
        "JSON nested",
        "[" * 100_000,
        "spec.json: nested more than 40 levels deep; a spec has about ten",
        ".json",
    ),
    Case(
        "control character",
        "name: a\x07b\n",
        "spec.yaml:1:8: not text: the character '\\x07' is not allowed in YAML",
    ),
    Case("JSON list", "[1]", "spec.json:1:1: expected a mapping of fields, got a list", ".json"),
    Case(
        "JSON without quotes",
        '{\n  "name": "demo",\n  nodes: {}\n}\n',
        "spec.json:3:3: not valid JSON: expecting property name enclosed in double quotes",
        ".json",
    ),
    Case(
        "JSON duplicate",
        '{"name": "a",\n "nodes": {"e1": "x"},\n "name": "b"}',
        "spec.json:3:2 name: 'name' is given twice, first on line 1\n  Keep one of the two.",
        ".json",
    ),
    Case(
        "TOML without equals",
        'name = "demo"\nnodes\n',
        "spec.toml:2:6: not valid TOML: expected '=' after a key in a key/value pair",
        ".toml",
    ),
    Case(
        "TOML duplicate",
        'name = "demo"\nname = "other"\n',
        "spec.toml:2:15: not valid TOML: cannot overwrite a value",
        ".toml",
    ),
    Case(
        "TOML unfinished",
        "name = [\n",
        "spec.toml:2: not valid TOML: invalid value",
        ".toml",
    ),
]

TOP_LEVEL = [
    Case(
        "nothing required",
        "feedback: none\n",
        "spec.yaml:1:1 name: missing\n  Add 'name: ...'.\nspec.yaml:1:1 nodes: missing\n  Add 'nodes: ...'.",
    ),
    Case(
        "misspelt section",
        VGG + "shedule: {steps: 3}\n",
        "spec.yaml:4:1 shedule: unknown field 'shedule'\n  Did you mean 'schedule'?",
    ),
    Case(
        "misspelt required section",
        "name: demo\nbackbone: {model: torchvision:vgg16}\nnode: {e1: features.3}\n",
        "spec.yaml:3:1 node: unknown field 'node'\n  Did you mean 'nodes'?",
    ),
    Case(
        "field of another section",
        VGG + "steps: 3\n",
        "spec.yaml:4:1 steps: unknown field 'steps'\n  It belongs under 'schedule'.",
    ),
    Case(
        "misspelt field of another section",
        VGG + "feedfoward: 0.3\n",
        "spec.yaml:4:1 feedfoward: unknown field 'feedfoward'\n"
        "  Did you mean 'feedforward', under 'dynamics', with rule 'predify'?",
    ),
    Case(
        "number for a name",
        "name: 16\nbackbone: {model: torchvision:vgg16}\nnodes: {e1: features.3}\n",
        "spec.yaml:1:1 name: expected text, got 16\n  Put it in quotes.",
    ),
    Case(
        "name with a slash",
        "name: a/b\nbackbone: {model: torchvision:vgg16}\nnodes: {e1: features.3}\n",
        "spec.yaml:1:1 name: 'a/b' cannot name a spec\n  It names folders: no '/', '\\' or line breaks.",
    ),
    Case(
        "no nodes",
        "name: demo\nbackbone: {model: torchvision:vgg16}\nnodes: {}\n",
        "spec.yaml:3:1 nodes: expected at least one, got an empty mapping",
    ),
    Case(
        "nodes as a list",
        "name: demo\nbackbone: {model: torchvision:vgg16}\nnodes: [features.3]\n",
        "spec.yaml:3:1 nodes: expected a mapping, got a list of 1",
    ),
    Case(
        "nodes left empty",
        "name: demo\nbackbone: {model: torchvision:vgg16}\nnodes:\n",
        "spec.yaml:3:1 nodes: expected a mapping, got nothing (null)",
    ),
    Case(
        "several at once",
        "name: demo\nbackbone: {model: vgg16}\nnodes: {e1: features.3, 2e: features.8}\nfeedback: chian\n"
        "schedule: {steps: ten}\n",
        "spec.yaml:2:12 backbone.model: 'vgg16' does not say which library the model is from\n"
        "  Write 'torchvision:vgg16' or 'timm:vgg16'.\n"
        "spec.yaml:3:25 nodes.2e: '2e' cannot name a node\n"
        "  Letters, digits and '_', not beginning with a digit, for example 'n2e'.\n"
        "spec.yaml:4:1 feedback: unknown pattern 'chian'\n  Did you mean 'chain'?\n"
        "spec.yaml:5:12 schedule.steps: expected a whole number, got 'ten'",
    ),
    Case(
        "type and reference at once",
        VGG + "feedback:\n  - {source: e3, target: e1}\n  - {source: e2, target: e1, delay: -1}\n",
        "spec.yaml:5:6 feedback[0].source: unknown node 'e3'\n  Choose from 'input', 'e1', 'e2'.\n"
        "spec.yaml:6:30 feedback[1].delay: expected at least 0, got -1",
    ),
]

BACKBONE = [
    Case(
        "misspelt library",
        "name: demo\nbackbone: {model: torchvison:vgg16}\nnodes: {e1: features.3}\n",
        "spec.yaml:2:12 backbone.model: unknown library 'torchvison'\n  Did you mean 'torchvision'?",
    ),
    Case(
        "no model name",
        'name: demo\nbackbone: {model: "timm:"}\nnodes: {e1: features.3}\n',
        "spec.yaml:2:12 backbone.model: 'timm:' names no model\n  Write 'timm:NAME'.",
    ),
    Case(
        "half a Python object",
        "name: demo\nbackbone: {model: python:models}\nnodes: {e1: features.3}\n",
        "spec.yaml:2:12 backbone.model: 'python:models' names no Python object\n"
        "  Write 'python:PACKAGE.MODULE:NAME'.",
    ),
    Case(
        "no model",
        "name: demo\nbackbone: {weights: DEFAULT}\nnodes: {e1: features.3}\n",
        "spec.yaml:2:12 backbone.weights: 'DEFAULT' without a model\n  Name the 'model' that they are for.",
    ),
    Case(
        "weights as a number",
        "name: demo\nbackbone: {model: torchvision:vgg16, weights: 16}\nnodes: {e1: features.3}\n",
        "spec.yaml:2:38 backbone.weights: expected text, got 16\n  Put it in quotes.",
    ),
    Case(
        "misspelt part of a weight file",
        "name: demo\nbackbone: {model: torchvision:vgg16, weights: {file: a.pth, prat: ema}}\n"
        "nodes: {e1: features.3}\n",
        "spec.yaml:2:61 backbone.weights.prat: unknown field 'prat'\n  Did you mean 'part'?",
    ),
    Case(
        "a weight file without a file",
        "name: demo\nbackbone: {model: torchvision:vgg16, weights: {part: ema}}\nnodes: {e1: features.3}\n",
        "spec.yaml:2:38 backbone.weights.file: missing\n  Add 'file: ...'.",
    ),
    Case(
        "a digest that is none",
        "name: demo\nnodes: {a: {shape: [2]}, b: {shape: [2]}}\nedges: [{source: a, target: b}]\n"
        "weights: {file: a.safetensors, sha256: ABC}\n",
        "spec.yaml:4:32 weights.sha256: expected 64 digits 0-9 and a-f, got 'ABC'\n  Write it as sha256sum prints it.",
    ),
    Case(
        "a part of the predictors' weights",
        "name: demo\nnodes: {a: {shape: [2]}, b: {shape: [2]}}\nedges: [{source: a, target: b}]\n"
        "weights: {file: a.safetensors, part: ema}\n",
        "spec.yaml:4:32 weights.part: unknown field 'part'\n  It belongs under 'backbone.weights'.",
    ),
    Case(
        "backbone as text",
        "name: demo\nbackbone: torchvision:vgg16\nnodes: {e1: features.3}\n",
        "spec.yaml:2:1 backbone: expected a mapping of fields, got 'torchvision:vgg16'\n"
        "  Write {model: torchvision:vgg16}.",
    ),
    Case(
        "misspelt weights",
        "name: demo\nbackbone: {model: torchvision:vgg16, weigths: DEFAULT}\nnodes: {e1: features.3}\n",
        "spec.yaml:2:38 backbone.weigths: unknown field 'weigths'\n  Did you mean 'weights'?",
    ),
    Case(
        "input as a number",
        "name: demo\nbackbone: {model: torchvision:vgg16, input: 224}\nnodes: {e1: features.3}\n",
        "spec.yaml:2:38 backbone.input: expected a list, got 224\n  Write [224].",
    ),
    Case(
        "input with a zero",
        "name: demo\nbackbone: {model: torchvision:vgg16, input: [3, 0, 224]}\nnodes: {e1: features.3}\n",
        "spec.yaml:2:49 backbone.input[1]: expected more than 0, got 0",
    ),
    Case(
        "match",
        "name: demo\nbackbone: {model: torchvision:vgg16, match: orders}\nnodes: {e1: features.3}\n",
        "spec.yaml:2:38 backbone.match: expected 'name' or 'order', got 'orders'\n  Did you mean 'order'?",
    ),
    Case(
        "argument that YAML 1.1 took for a boolean",
        "name: demo\nbackbone: {model: torchvision:vgg16, arguments: {progress: no}}\nnodes: {e1: features.3}\n",
        "spec.yaml:2:50 backbone.arguments.progress: expected true or false, got the text 'no'\n"
        "  Write false, without quotes.",
    ),
    Case(
        "argument that is a list",
        "name: demo\nbackbone: {model: torchvision:vgg16, arguments: {sizes: [1, 2]}}\nnodes: {e1: features.3}\n",
        "spec.yaml:2:50 backbone.arguments.sizes: expected a number, text, true or false, got a list of 2",
    ),
    Case(
        "preprocess channels",
        "name: demo\nbackbone:\n  model: torchvision:vgg16\n  preprocess: {mean: [0.5], std: [0.2, 0.2, 0.2]}\n"
        "nodes: {e1: features.3}\n",
        "spec.yaml:4:16 backbone.preprocess.mean: 1 value for an input of 3 channels\n"
        "  Give 'mean' one value for each channel.",
    ),
    Case(
        "preprocess deviation of zero",
        "name: demo\nbackbone:\n  model: torchvision:vgg16\n  preprocess: {std: [0.2, 0, 0.2]}\nnodes: {e1: features.3}\n",
        "spec.yaml:4:27 backbone.preprocess.std[1]: expected more than 0, got 0",
    ),
    Case(
        "preprocess smaller than the crop",
        "name: demo\nbackbone:\n  model: torchvision:vgg16\n  preprocess: {resize: 200}\nnodes: {e1: features.3}\n",
        "spec.yaml:4:16 backbone.preprocess.resize: 200 pixels are less than the crop to 224 x 224\n"
        "  At least 224.",
    ),
    Case(
        "preprocess without an image",
        "name: demo\nbackbone:\n  model: python:nets:mlp\n  input: [10]\n  preprocess: {}\nnodes: {e1: layer}\n",
        "spec.yaml:5:3 backbone.preprocess: 'preprocess' is for images, and the input [10] is none\n"
        "  An image is [channels, height, width].",
    ),
]

NODES = [
    Case(
        "name with a dash",
        "name: demo\nbackbone: {model: torchvision:vgg16}\nnodes: {conv-1: features.3}\n",
        "spec.yaml:3:9 nodes.conv-1: 'conv-1' cannot name a node\n"
        "  Letters, digits and '_', not beginning with a digit, for example 'conv_1'.",
    ),
    Case(
        "number as a name",
        "name: demo\nbackbone: {model: torchvision:vgg16}\nnodes: {1: features.3}\n",
        "spec.yaml:3:9 nodes.1: '1' cannot name a node\n"
        "  Letters, digits and '_', not beginning with a digit, for example 'n1'.",
    ),
    Case(
        "word of Python",
        "name: demo\nbackbone: {model: torchvision:vgg16}\nnodes: {lambda: features.3}\n",
        "spec.yaml:3:9 nodes.lambda: 'lambda' is a word of Python and cannot name a node\n"
        "  For example 'lambda_'.",
    ),
    Case(
        "input is declared",
        "name: demo\nbackbone: {model: torchvision:vgg16}\nnodes: {input: features.0, e1: features.3}\n",
        "spec.yaml:3:9 nodes.input: 'input' is the image of a network with a backbone and is not declared\n"
        "  Remove it, or give the node another name.",
    ),
    Case(
        "module and shape",
        "name: demo\nbackbone: {model: torchvision:vgg16}\nnodes: {e1: {module: features.3, shape: [64, 224, 224]}}\n",
        "spec.yaml:3:9 nodes.e1: a node has either 'module' or 'shape', not both\n"
        "  A module's shape is worked out.",
    ),
    Case(
        "neither module nor shape",
        "name: demo\nbackbone: {model: torchvision:vgg16}\nnodes: {e1: {delay: 2}}\n",
        "spec.yaml:3:9 nodes.e1: a node needs 'module' or 'shape'\n"
        "  'module' is a place in the backbone, 'shape' makes a node outside it.",
    ),
    Case(
        "shape alone",
        "name: demo\nnodes: {a: [4], b: {shape: [3]}}\nedges: [{source: a, target: b}]\n",
        "spec.yaml:2:9 nodes.a: expected a module's name or a mapping, got a list of 1\n"
        "  Write {shape: [...]}.",
    ),
    Case(
        "shape as a number",
        "name: demo\nnodes: {a: {shape: 4}, b: {shape: [3]}}\nedges: [{source: a, target: b}]\n",
        "spec.yaml:2:13 nodes.a.shape: expected a list, got 4\n  Write [4].",
    ),
    Case(
        "shape with a fraction",
        "name: demo\nnodes: {a: {shape: [4.5]}, b: {shape: [3]}}\nedges: [{source: a, target: b}]\n",
        "spec.yaml:2:21 nodes.a.shape[0]: expected a whole number, got 4.5",
    ),
    Case(
        "shape in quotes",
        'name: demo\nnodes: {a: {shape: ["4"]}, b: {shape: [3]}}\nedges: [{source: a, target: b}]\n',
        "spec.yaml:2:21 nodes.a.shape[0]: expected a whole number, got '4'\n  Leave out the quotes.",
    ),
    Case(
        "delay of a free node",
        "name: demo\nnodes: {a: {shape: [4], delay: 2}, b: {shape: [3]}}\nedges: [{source: a, target: b}]\n",
        "spec.yaml:2:9 nodes.a: 'delay' of a node is for nodes in the backbone\n"
        "  Give the edges into this node a 'delay'.",
    ),
    Case(
        "misspelt module",
        "name: demo\nbackbone: {model: torchvision:vgg16}\nnodes:\n  e1: {modul: features.3}\n",
        "spec.yaml:4:8 nodes.e1.modul: unknown field 'modul'\n  Did you mean 'module'?",
    ),
    Case(
        "one place twice",
        "name: demo\nbackbone: {model: torchvision:vgg16}\nnodes:\n  e1: features.3\n  e2: features.3\n",
        "spec.yaml:5:3 nodes.e2: 'e1' and 'e2' are the same place, 'features.3'\n  Keep one of the two.",
    ),
    Case(
        "places without a backbone",
        "name: demo\nnodes: {e1: features.3, e2: features.8}\nfeedback: [{source: e2, target: e1}]\n",
        "spec.yaml:2:9 nodes.e1: 'features.3' is a place in a backbone, and this spec has no 'backbone'\n"
        "  Add a 'backbone', or give the nodes a 'shape'.",
    ),
    Case(
        "nothing connects",
        "name: demo\nnodes: {a: {shape: [4]}, b: {shape: [3]}}\n",
        "spec.yaml:2:1 nodes: a network without a backbone needs 'edges': nothing connects its nodes\n"
        "  Add edges such as {source: A, target: B}, or a 'backbone'.",
    ),
]

EDGES = [
    Case(
        "misspelt pattern",
        VGG + "feedback: chian\n",
        "spec.yaml:4:1 feedback: unknown pattern 'chian'\n  Did you mean 'chain'?",
    ),
    Case(
        "misspelt pattern in a list",
        VGG + "feedback:\n  - chain\n  - to-input\n",
        "spec.yaml:6:5 feedback[1]: unknown pattern 'to-input'\n  Did you mean 'to_input'?",
    ),
    Case(
        "no such pattern",
        VGG + "feedback: everything\n",
        "spec.yaml:4:1 feedback: unknown pattern 'everything'\n"
        "  Choose from 'chain', 'to_input', 'dense', 'none', '{skip: 2}'.",
    ),
    Case(
        "pattern is empty",
        VGG + "feedback:\n",
        "spec.yaml:4:1 feedback: expected a pattern or a list, got nothing (null)\n"
        "  Write 'none' for no feedback.",
    ),
    Case(
        "skip without a distance",
        VGG + "feedback: skip\n",
        "spec.yaml:4:1 feedback: 'skip' needs a distance\n  For example {skip: 2}.",
    ),
    Case(
        "skip of zero",
        VGG + "feedback: {skip: 0}\n",
        "spec.yaml:4:12 feedback.skip: expected more than 0, got 0",
    ),
    Case(
        "misspelt skip",
        VGG + "feedback: [{skp: 2}]\n",
        "spec.yaml:4:13 feedback[0].skp: unknown field 'skp'\n  Did you mean 'skip'?",
    ),
    Case(
        "skip with a delay",
        VGG + "feedback: [{skip: 2, delay: 1}]\n",
        "spec.yaml:4:22 feedback[0].delay: unknown field 'delay'\n  It belongs to an edge.",
    ),
    Case(
        "pattern with a value",
        VGG + "feedback:\n  - chain: true\n",
        "spec.yaml:5:5 feedback[0]: expected a pattern or an edge, got a mapping of 'chain'\n  Write 'chain' alone.",
    ),
    Case(
        "neither pattern nor edge",
        VGG + "feedback: [7]\n",
        "spec.yaml:4:12 feedback[0]: expected a pattern or an edge, got 7\n"
        "  A pattern is chain, to_input, dense, none or {skip: 2}; an edge has 'source' and 'target'.",
    ),
    Case(
        "none beside a pattern",
        VGG + "feedback: [none, chain]\n",
        "spec.yaml:4:12 feedback[0]: 'none' stands alone\n  Remove it, or remove the rest of 'feedback'.",
    ),
    Case(
        "none beside an edge",
        VGG + "feedback:\n  - {source: e2, target: e1}\n  - none\n",
        "spec.yaml:6:5 feedback[1]: 'none' stands alone\n  Remove it, or remove the rest of 'feedback'.",
    ),
    Case(
        "pattern with nothing to follow",
        "name: demo\nnodes: {a: {shape: [4]}, b: {shape: [3]}}\nfeedback: chain\n",
        "spec.yaml:3:1 feedback: the pattern 'chain' follows the feedforward edges, and there are none\n"
        "  Add 'edges', or a 'backbone'.",
    ),
    Case(
        "edges as a mapping",
        "name: demo\nnodes: {a: {shape: [4]}, b: {shape: [3]}}\nedges: {source: a, target: b}\n",
        "spec.yaml:3:1 edges: expected a list, got a mapping of 'source', 'target'\n  Begin each item with '- '.",
    ),
    Case(
        "edge as text",
        "name: demo\nnodes: {a: {shape: [4]}, b: {shape: [3]}}\nedges: [a->b]\n",
        "spec.yaml:3:9 edges[0]: expected a mapping of fields, got 'a->b'\n  Write {source: a, target: b}.",
    ),
    Case(
        "no target",
        VGG + "feedback:\n  - {source: e2}\n",
        "spec.yaml:5:5 feedback[0].target: missing\n  Add 'target: ...'.",
    ),
    Case(
        "misspelt target",
        VGG + "feedback:\n  - {source: e2, traget: e1}\n",
        "spec.yaml:5:18 feedback[0].traget: unknown field 'traget'\n  Did you mean 'target'?",
    ),
    Case(
        "other names for source and target",
        VGG + "feedback:\n  - {from: e2, to: e1, source: e2}\n",
        "spec.yaml:5:6 feedback[0].from: unknown field 'from'\n  Did you mean 'source'?\n"
        "spec.yaml:5:16 feedback[0].to: unknown field 'to'\n  Did you mean 'target'?",
    ),
    Case(
        "unknown source",
        VGG + "feedback: [{source: e22, target: e1}]\n",
        "spec.yaml:4:13 feedback[0].source: unknown node 'e22'\n  Did you mean 'e2'?",
    ),
    Case(
        "one unknown source of two",
        VGG + "feedback: [{source: [e2, conv9], target: e1}]\n",
        "spec.yaml:4:26 feedback[0].source[1]: unknown node 'conv9'\n  Choose from 'input', 'e1', 'e2'.",
    ),
    Case(
        "module instead of node",
        VGG + "feedback: [{source: e2, target: features.3}]\n",
        "spec.yaml:4:25 feedback[0].target: 'features.3' cannot name a node\n"
        "  Letters, digits and '_', not beginning with a digit, for example 'features_3'.",
    ),
    Case(
        "input without a backbone",
        FREE + "feedback: [{source: a, target: input}]\n",
        "spec.yaml:4:24 feedback[0].target: unknown node 'input'\n"
        "  Without a backbone there is no 'input'; declare it under 'nodes' with a shape.",
    ),
    Case(
        "source as a number",
        VGG + "feedback: [{source: 2, target: e1}]\n",
        "spec.yaml:4:13 feedback[0].source: expected text, got 2",
    ),
    Case(
        "no source at all",
        VGG + "feedback: [{source: [], target: e1}]\n",
        "spec.yaml:4:13 feedback[0].source: expected at least one, got an empty list",
    ),
    Case(
        "target as a list",
        VGG + "feedback: [{source: e2, target: [e1]}]\n",
        "spec.yaml:4:25 feedback[0].target: expected text, got a list of 1\n  An edge has one target.",
    ),
    Case(
        "source twice",
        VGG + "feedback: [{source: [e2, e2], target: e1}]\n",
        "spec.yaml:4:26 feedback[0].source[1]: 'e2' is named twice as a source of one edge\n"
        "  Remove one of the two.",
    ),
    Case(
        "edge twice",
        VGG + "feedback:\n  - {source: e2, target: e1}\n  - chain\n  - {source: e2, target: e1, delay: 2}\n",
        "spec.yaml:7:5 feedback[2]: the edge e2->e1 is already given as feedback[0]\n  Remove one of the two.",
    ),
    Case(
        "edge in both sections",
        FREE + "feedback: [{source: a, target: b}]\n",
        "spec.yaml:4:12 feedback[0]: the edge a->b is already given as edges[0]\n  Remove one of the two.",
    ),
    Case(
        "delay as a fraction",
        VGG + "feedback: [{source: e2, target: e1, delay: 0.5}]\n",
        "spec.yaml:4:37 feedback[0].delay: expected a whole number, got 0.5",
    ),
    Case(
        "delay as a boolean",
        VGG + "feedback: [{source: e2, target: e1, delay: true}]\n",
        "spec.yaml:4:37 feedback[0].delay: expected a whole number, got true",
    ),
    Case(
        "negative gain",
        VGG + "feedback: [{source: e2, target: e1, gain: -0.1}]\n",
        "spec.yaml:4:37 feedback[0].gain: expected at least 0, got -0.1",
    ),
    Case(
        "precision of zero",
        FREE + "feedback: [{source: c, target: b, precision: 0}]\ndynamics: {rule: energy}\n",
        "spec.yaml:4:35 feedback[0].precision: expected more than 0, got 0",
    ),
    Case(
        "infinite reach",
        VGG + "feedback: [{source: e2, target: e1, reach: .inf}]\n",
        "spec.yaml:4:37 feedback[0].reach: expected a finite number, got inf",
    ),
]

PREDICTORS = [
    Case(
        "misspelt auto",
        VGG + "feedback: [{source: e2, target: e1, predictor: atuo}]\n",
        "spec.yaml:4:37 feedback[0].predictor: expected 'auto', a list of layers or 'python:...', got 'atuo'\n"
        "  Did you mean 'auto'?",
    ),
    Case(
        "layer without a list",
        VGG + "feedback: [{source: e2, target: e1, predictor: ReLU}]\n",
        "spec.yaml:4:37 feedback[0].predictor: expected 'auto', a list of layers or 'python:...', got 'ReLU'\n"
        "  A list has brackets: [ReLU].",
    ),
    Case(
        "layer with arguments without a list",
        VGG + "feedback: [{source: e2, target: e1, predictor: {Conv2d: {kernel_size: 3}}}]\n",
        "spec.yaml:4:37 feedback[0].predictor: expected 'auto', a list of layers or 'python:...', "
        "got a mapping of 'Conv2d'\n  Put the layer in a list.",
    ),
    Case(
        "no layers",
        VGG + "feedback: [{source: e2, target: e1, predictor: []}]\n",
        "spec.yaml:4:37 feedback[0].predictor: expected at least one, got an empty list",
    ),
    Case(
        "half a Python predictor",
        VGG + "feedback: [{source: e2, target: e1, predictor: python:nets}]\n",
        "spec.yaml:4:37 feedback[0].predictor: 'python:nets' names no Python object\n"
        "  Write 'python:PACKAGE.MODULE:NAME'.",
    ),
    Case(
        "unknown layer",
        VGG + "feedback: [{source: e2, target: e1, predictor: [ConvTransposed2d]}]\n",
        "spec.yaml:4:49 feedback[0].predictor[0]: unknown layer 'ConvTransposed2d'\n"
        "  Did you mean 'ConvTranspose2d' or 'ConvTranspose3d' or 'ConvTranspose1d'?",
    ),
    Case(
        "layer in other letters",
        VGG + "feedback: [{source: e2, target: e1, predictor: [Flatten, relu]}]\n",
        "spec.yaml:4:58 feedback[0].predictor[1]: unknown layer 'relu'\n  Did you mean 'ReLU'?",
    ),
    Case(
        "layer with its package",
        VGG + "feedback: [{source: e2, target: e1, predictor: [nn.ReLU]}]\n",
        "spec.yaml:4:49 feedback[0].predictor[0]: unknown layer 'nn.ReLU'\n  Did you mean 'ReLU'?",
    ),
    Case(
        "unknown argument",
        VGG
        + "feedback:\n  - source: e2\n    target: e1\n    predictor:\n      - ConvTranspose2d: {kernel: 4, stride: 2}\n",
        "spec.yaml:8:27 feedback[0].predictor[0].ConvTranspose2d.kernel: "
        "unknown argument 'kernel' of ConvTranspose2d\n  Did you mean 'kernel_size'?",
    ),
    Case(
        "argument of the wrong type",
        VGG + "feedback: [{source: e2, target: e1, predictor: [{Conv2d: {kernel_size: five}}]}]\n",
        "spec.yaml:4:59 feedback[0].predictor[0].Conv2d.kernel_size: "
        "expected a whole number above 0 or a list of them, got 'five'",
    ),
    Case(
        "two faults in one layer",
        VGG + "feedback: [{source: e2, target: e1, predictor: [{Conv2d: {stride: 0, bias: no}}]}]\n",
        "spec.yaml:4:59 feedback[0].predictor[0].Conv2d.stride: "
        "expected a whole number above 0 or a list of them, got 0\n"
        "spec.yaml:4:70 feedback[0].predictor[0].Conv2d.bias: expected true or false, got 'no'",
    ),
    Case(
        "unknown padding word",
        VGG + "feedback: [{source: e2, target: e1, predictor: [{Conv2d: {padding: full}}]}]\n",
        "spec.yaml:4:59 feedback[0].predictor[0].Conv2d.padding: "
        "expected a whole number from 0 on or a list of them, 'same' or 'valid', got 'full'",
    ),
    Case(
        "in place",
        VGG + "feedback: [{source: e2, target: e1, predictor: [{ReLU: {inplace: true}}]}]\n",
        "spec.yaml:4:57 feedback[0].predictor[0].ReLU.inplace: ReLU takes no 'inplace' here\n"
        "  Leave it out: a predictor never changes a state in place.",
    ),
    Case(
        "number instead of arguments",
        VGG + "feedback: [{source: e2, target: e1, predictor: [{AdaptiveAvgPool2d: 7}]}]\n",
        "spec.yaml:4:50 feedback[0].predictor[0].AdaptiveAvgPool2d: expected a mapping of arguments, got 7\n"
        "  Write {AdaptiveAvgPool2d: {output_size: 7}}.",
    ),
    Case(
        "two layers in one item",
        VGG + "feedback: [{source: e2, target: e1, predictor: [{Conv2d: {}, ReLU: {}}]}]\n",
        "spec.yaml:4:49 feedback[0].predictor[0]: expected a layer, NAME or {NAME: {argument: value}}, "
        "got a mapping of 'Conv2d', 'ReLU'\n  Each further layer begins with its own '-'.",
    ),
    Case(
        "auto in a list",
        VGG + "feedback: [{source: e2, target: e1, predictor: [auto]}]\n",
        "spec.yaml:4:49 feedback[0].predictor[0]: unknown layer 'auto'\n"
        "  Write 'predictor: auto', without the list.",
    ),
    Case(
        "sequence of layers",
        VGG + "feedback: [{source: e2, target: e1, predictor: [{Sequential: [ReLU]}]}]\n",
        "spec.yaml:4:49 feedback[0].predictor[0]: unknown layer 'Sequential'\n"
        "  A list of layers already is a sequence; write its layers one after the other.",
    ),
]

MASKS = [
    Case(
        "mask of two kinds",
        FREE.replace("target: b}", "target: b, mask: {density: 0.5, blocks: [[1]]}}"),
        "spec.yaml:3:32 edges[0].mask: a mask has one of density, blocks, graph, file, got 'density' and 'blocks'",
    ),
    Case(
        "mask of nothing",
        FREE.replace("target: b}", "target: b, mask: {seed: 3}}"),
        "spec.yaml:3:32 edges[0].mask: a mask has one of density, blocks, graph, file, got none",
    ),
    Case(
        "density above one",
        FREE.replace("target: b}", "target: b, mask: {density: 1.5}}"),
        "spec.yaml:3:39 edges[0].mask.density: expected at most 1, got 1.5",
    ),
    Case(
        "misspelt mask field",
        FREE.replace("target: b}", "target: b, mask: {densty: 0.5}}"),
        "spec.yaml:3:39 edges[0].mask.densty: unknown field 'densty'\n  Did you mean 'density'?",
    ),
    Case(
        "blocks that are no table",
        FREE.replace("target: b}", "target: b, mask: {blocks: [[1, 0], [1]]}}"),
        "spec.yaml:3:32 edges[0].mask: the rows of 'blocks' differ in length\n"
        "  Each row has one number a source part.",
    ),
    Case(
        "blocks that are no masks",
        FREE.replace("target: b}", "target: b, mask: {blocks: [[1, 2]]}}"),
        "spec.yaml:3:52 edges[0].mask.blocks[0][1]: expected 0 or 1, got 2",
    ),
    Case(
        "unknown mask file",
        FREE.replace("target: b}", "target: b, mask: m.csv}"),
        "spec.yaml:3:32 edges[0].mask: 'm.csv' is no mask file\n"
        "  It ends in .npy, .safetensors, .adjlist, .edgelist, .graphml.",
    ),
    Case(
        "unknown generator",
        FREE.replace("target: b}", "target: b, mask: {graph: {watts: {k: 2}}}}"),
        "spec.yaml:3:47 edges[0].mask.graph.watts: unknown generator 'watts'\n"
        "  Choose from 'barabasi_albert', 'erdos_renyi', 'grid_2d', 'newman_watts_strogatz', "
        "'stochastic_block_model', 'watts_strogatz'.",
    ),
    Case(
        "generator without an argument",
        FREE.replace("target: b}", "target: b, mask: {graph: {watts_strogatz: {k: 2, q: 1}}}}"),
        "spec.yaml:3:47 edges[0].mask.graph.watts_strogatz: watts_strogatz needs 'p'\n"
        "  Write {watts_strogatz: {p: ...}}.\n"
        "spec.yaml:3:70 edges[0].mask.graph.watts_strogatz.q: unknown argument 'q' of watts_strogatz\n"
        "  Choose from 'n', 'k', 'p'.",
    ),
    Case(
        "generator with a wrong argument",
        FREE.replace("target: b}", "target: b, mask: {graph: {erdos_renyi: {p: 2}}}}"),
        "spec.yaml:3:61 edges[0].mask.graph.erdos_renyi.p: expected a number from 0 to 1, got 2",
    ),
    Case(
        "generator as a word",
        FREE.replace("target: b}", "target: b, mask: {graph: watts_strogatz}}"),
        "spec.yaml:3:39 edges[0].mask.graph: expected {NAME: {argument: value}}, got 'watts_strogatz'",
    ),
]

DYNAMICS = [
    Case(
        "unknown rule",
        VGG + "dynamics: {rule: predifi}\n",
        "spec.yaml:4:12 dynamics.rule: unknown rule 'predifi'\n  Did you mean 'predify'?",
    ),
    Case(
        "no such rule",
        VGG + "dynamics: {rule: hopfield}\n",
        "spec.yaml:4:12 dynamics.rule: unknown rule 'hopfield'\n  Choose from 'predify', 'energy'.",
    ),
    Case(
        "misspelt gain",
        VGG + "dynamics: {feedfoward: 0.3}\n",
        "spec.yaml:4:12 dynamics.feedfoward: unknown field 'feedfoward'\n  Did you mean 'feedforward'?",
    ),
    Case(
        "Greek letter",
        VGG + "dynamics: {beta: 0.3}\n",
        "spec.yaml:4:12 dynamics.beta: unknown field 'beta'\n  Did you mean 'feedforward'?",
    ),
    Case(
        "field of the other rule",
        VGG + "dynamics: {rate: 0.3}\n",
        "spec.yaml:4:12 dynamics.rate: unknown field 'rate'\n  It belongs under 'dynamics', with rule 'energy'.",
    ),
    Case(
        "share above one",
        VGG + "dynamics: {feedforward: 1.3}\n",
        "spec.yaml:4:12 dynamics.feedforward: expected at most 1, got 1.3",
    ),
    Case(
        "gradient",
        VGG + "dynamics: {gradient: normalised}\n",
        "spec.yaml:4:12 dynamics.gradient: expected 'sum', 'mean' or 'normalized', got 'normalised'\n"
        "  Did you mean 'normalized'?",
    ),
    Case(
        "unknown node",
        VGG + "dynamics: {nodes: {E1: {error: 0.1}}}\n",
        "spec.yaml:4:20 dynamics.nodes.E1: unknown node 'E1'\n  Choose from 'input', 'e1', 'e2'.",
    ),
    Case(
        "number for a node",
        VGG + "dynamics: {nodes: {e1: 0.1}}\n",
        "spec.yaml:4:20 dynamics.nodes.e1: expected a mapping of fields, got 0.1",
    ),
    Case(
        "error gain of a word",
        VGG + "dynamics: {error: automatic}\n",
        "spec.yaml:4:12 dynamics.error: expected a number or 'auto', got 'automatic'\n  Did you mean 'auto'?",
    ),
    Case(
        "error gain of an edge",
        VGG + "feedback: [{source: e1, target: input, error: -1}]\n",
        "spec.yaml:4:40 feedback[0].error: expected at least 0, got -1",
    ),
    Case(
        "rate of a node",
        FREE + "dynamics: {rule: energy, nodes: {b: {error: 0.1}}}\n",
        "spec.yaml:4:34 dynamics.nodes.b.rate: missing\n  Add 'rate: ...'.\n"
        "spec.yaml:4:38 dynamics.nodes.b.error: unknown field 'error'\n"
        "  It belongs under 'dynamics', with rule 'predify'.",
    ),
    Case(
        "gain under energy",
        FREE + "feedback: [{source: c, target: b, gain: 0.1}]\ndynamics: {rule: energy}\n",
        "spec.yaml:4:35 feedback[0].gain: 'gain' belongs to rule 'predify'\n"
        "  Rule 'energy' weighs an edge by its 'precision'.",
    ),
    Case(
        "reach under energy",
        FREE + "feedback: [{source: c, target: b, reach: 9}]\ndynamics: {rule: energy}\n",
        "spec.yaml:4:35 feedback[0].reach: 'reach' belongs to rule 'predify'\n"
        "  Rule 'energy' weighs an edge by its 'precision'.",
    ),
    Case(
        "precision under predify",
        VGG + "feedback: [{source: e2, target: e1, precision: 2}]\n",
        "spec.yaml:4:37 feedback[0].precision: 'precision' belongs to rule 'energy'\n"
        "  Rule 'predify' weighs an edge by its 'gain' and 'error'.",
    ),
    Case(
        "bundle with two targets",
        FREE + "feedback:\n  - {source: c, target: b, bundle: x}\n  - {source: c, target: a, bundle: x}\n",
        "spec.yaml:6:28 feedback[1].bundle: bundle 'x': c->b and c->a have different targets\n"
        "  A bundle predicts one node.",
    ),
    Case(
        "bundle named like an edge",
        FREE + "feedback:\n  - {source: c, target: b, bundle: a->b}\n",
        "spec.yaml:5:28 feedback[0].bundle: 'a->b' cannot name a bundle\n"
        "  Take a name without '->', which is for edges.",
    ),
    Case(
        "bundle of both kinds",
        "name: demo\nnodes: {a: {shape: [4]}, b: {shape: [3]}, c: {shape: [2]}}\n"
        "edges: [{source: a, target: b, bundle: x}, {source: b, target: c}]\n"
        "feedback: [{source: c, target: b, bundle: x}]\n",
        "spec.yaml:4:35 feedback[0].bundle: bundle 'x': a->b and c->b are a feedforward and a feedback edge\n"
        "  Put all edges of a bundle under 'edges', or all under 'feedback'.",
    ),
    Case(
        "bundle with two precisions",
        FREE
        + "feedback:\n  - {source: b, target: a, bundle: x}\n  - {source: c, target: a, bundle: x, precision: 2}\n"
        "dynamics: {rule: energy}\n",
        "spec.yaml:6:28 feedback[1].bundle: bundle 'x': b->a and c->a have precisions 1 and 2\n"
        "  A bundle has one error, so one precision.",
    ),
    Case(
        "bundle with two gains",
        FREE
        + "feedback:\n  - {source: b, target: a, bundle: x}\n  - {source: c, target: a, bundle: x, gain: 0.5}\n",
        "spec.yaml:6:28 feedback[1].bundle: bundle 'x': b->a and c->a have gains none and 0.5\n"
        "  A bundle has one error, so one gain.",
    ),
    Case(
        "bundle with delays zero and two",
        FREE
        + "feedback:\n  - {source: b, target: a, bundle: x, delay: 2}\n  - {source: c, target: a, bundle: x, delay: 0}\n",
        "spec.yaml:6:28 feedback[1].bundle: bundle 'x': b->a and c->a have delays 2 and 0\n"
        "  Edges of delay 0 are judged within the step, others before it.",
    ),
]

AREAS = "name: demo\nnodes: {a: {shape: [4]}}\ndynamics: {rule: energy}\n"
TOPOLOGY = [
    Case(
        "topology without a shape",
        AREAS + "topology: {graph: {grid_2d: {m: 2, n: 2}}, ties: [{source: a, target: areas}]}\n",
        "spec.yaml:4:1 topology.shape: missing\n  Add 'shape: ...'.",
    ),
    Case(
        "topology without a size",
        AREAS + "topology: {graph: {erdos_renyi: {p: 0.5}}, shape: [2]}\n",
        "spec.yaml:4:12 topology.graph: erdos_renyi needs 'n'\n  The number of areas.",
    ),
    Case(
        "topology far too large",
        AREAS + "topology: {graph: {grid_2d: {m: 1000, n: 1000}}, shape: [2]}\n",
        "spec.yaml:4:12 topology.graph: a graph of 1000000 areas; at most 1000",
    ),
    Case(
        "topology that networkx refuses",
        AREAS + "topology: {graph: {barabasi_albert: {n: 3, m: 5}}, shape: [2]}\n",
        "spec.yaml:4:20 topology.graph.barabasi_albert: networkx makes no such graph: "
        "Barabási–Albert network must have m >= 1 and m < n, m = 5, n = 3",
    ),
    Case(
        "misspelt topology field",
        AREAS + "topology: {graph: {grid_2d: {m: 2, n: 2}}, shape: [2], tis: []}\n",
        "spec.yaml:4:56 topology.tis: unknown field 'tis'\n  Did you mean 'ties'?",
    ),
    Case(
        "tie without a target",
        AREAS + "topology: {graph: {grid_2d: {m: 2, n: 2}}, shape: [2], ties: [{source: a}]}\n",
        "spec.yaml:4:63 topology.ties[0].target: missing\n  Add 'target: ...'.",
    ),
    Case(
        "tie to no area",
        AREAS
        + "topology: {graph: {grid_2d: {m: 1, n: 2}}, shape: [2], ties: [{source: a, target: area2}]}\n",
        "spec.yaml:4:63 edges[2].target: unknown node 'area2'\n  Did you mean 'area1' or 'area0'?",
    ),
]

DESCENT = [
    Case(
        "two decays",
        FREE + "dynamics: {rule: energy, decay: {exponential: 0.9, cosine: 20}}\n",
        "spec.yaml:4:26 dynamics.decay: a decay has one of exponential, inverse, cosine, "
        "got 'exponential' and 'cosine'",
    ),
    Case(
        "decay that grows",
        FREE + "dynamics: {rule: energy, decay: {exponential: 1.1}}\n",
        "spec.yaml:4:34 dynamics.decay.exponential: expected less than 1, got 1.1",
    ),
    Case(
        "misspelt decay",
        FREE + "dynamics: {rule: energy, decay: {cosin: 20}}\n",
        "spec.yaml:4:34 dynamics.decay.cosin: unknown field 'cosin'\n  Did you mean 'cosine'?",
    ),
    Case(
        "optimizer of torch",
        FREE + "dynamics: {rule: energy, optimizer: Adam}\n",
        "spec.yaml:4:26 dynamics.optimizer: expected 'gradient', 'momentum' or 'adam', got 'Adam'\n"
        "  Did you mean 'adam'?",
    ),
    Case(
        "betas without a memory",
        FREE + "dynamics: {rule: energy, betas: [0.5, 0.9]}\n",
        "spec.yaml:4:1 dynamics: 'betas' belong to optimizers 'momentum' and 'adam'\n"
        "  Name one as 'optimizer'.",
    ),
    Case(
        "beta of one",
        FREE + "dynamics: {rule: energy, optimizer: adam, betas: [1.0, 0.9]}\n",
        "spec.yaml:4:51 dynamics.betas[0]: expected less than 1, got 1.0",
    ),
    Case(
        "temperature with momentum",
        FREE + "dynamics: {rule: energy, optimizer: momentum, temperature: 1}\n",
        "spec.yaml:4:1 dynamics: 'temperature' needs optimizer 'gradient', got 'momentum'\n"
        "  With a memory the noise would not sample from the energy.",
    ),
    Case(
        "temperature of the other rule",
        FREE + "dynamics: {temperature: 1}\n",
        "spec.yaml:4:12 dynamics.temperature: unknown field 'temperature'\n"
        "  It belongs under 'dynamics', with rule 'energy'.",
    ),
]

BLOCKS = [
    Case(
        "unknown node in a block",
        FREE + "schedule: {order: [[a, b], [d]]}\n",
        "spec.yaml:4:29 schedule.order[1][0]: unknown node 'd'\n  Choose from 'a', 'b', 'c'.",
    ),
    Case(
        "node in two blocks",
        FREE + "schedule: {order: [[a, b], [b, c]]}\n",
        "spec.yaml:4:29 schedule.order[1][0]: 'b' stands in the order twice\n  A node moves once a step.",
    ),
    Case(
        "blocks and delay 0",
        FREE.replace("target: b}", "target: b, delay: 0}") + "schedule: {order: [[b], [c]]}\n",
        "spec.yaml:3:32 edges[0].delay: delay 0 has no meaning in an order of blocks: there delay 1 reads the "
        "newest states\n  Leave the delay out.",
    ),
    Case(
        "empty block",
        FREE + "schedule: {order: [[]]}\n",
        "spec.yaml:4:20 schedule.order[0]: expected at least one, got an empty list",
    ),
    Case(
        "block that is no list",
        FREE + "schedule: {order: [a, b]}\n",
        "spec.yaml:4:20 schedule.order[0]: expected a list, got 'a'\n"
        "spec.yaml:4:23 schedule.order[1]: expected a list, got 'b'",
    ),
]

SCHEDULE = [
    Case(
        "unknown order",
        VGG + "schedule: {order: sweap}\n",
        "spec.yaml:4:12 schedule.order: expected 'synchronous' or 'sweep', got 'sweap'\n  Did you mean 'sweep'?",
    ),
    Case(
        "unknown start",
        VGG + "schedule: {initial: zero}\n",
        "spec.yaml:4:12 schedule.initial: expected 'feedforward', 'zeros', 'normal' or 'amortised', got 'zero'\n"
        "  Did you mean 'zeros'?",
    ),
    Case(
        "steps in quotes",
        VGG + 'schedule: {steps: "10"}\n',
        "spec.yaml:4:12 schedule.steps: expected a whole number, got '10'\n  Leave out the quotes.",
    ),
    Case(
        "negative steps",
        VGG + "schedule: {steps: -3}\n",
        "spec.yaml:4:12 schedule.steps: expected at least 0, got -3",
    ),
    Case(
        "steps to the power",
        VGG + "schedule: {steps: 1e1}\n",
        "spec.yaml:4:12 schedule.steps: expected a whole number, got 10.0",
    ),
    Case(
        "tolerance of zero",
        VGG + "schedule: {tolerance: 0}\n",
        "spec.yaml:4:12 schedule.tolerance: expected more than 0, got 0",
    ),
    Case(
        "weights as a list",
        VGG + "schedule: {tolerance: 1e-3}\nweights: [a]\n",
        "spec.yaml:5:1 weights: expected text, got a list of 1",
    ),
]

GUESSED = FREE + "schedule: {initial: amortised}\n"
STARTS = [
    Case(
        "start at an unknown node",
        GUESSED + "start: [{source: a, target: bb}, {source: [a, d], target: c}]\n",
        "spec.yaml:5:21 start[0].target: unknown node 'bb'\n  Did you mean 'b'?\n"
        "spec.yaml:5:47 start[1].source[1]: unknown node 'd'\n  Choose from 'a', 'b', 'c'.",
    ),
    Case(
        "two starts into one node",
        GUESSED + "start:\n  - {source: a, target: c}\n  - {source: b, target: c}\n",
        "spec.yaml:7:5 start[1]: 'c' has a start already, start[0]\n"
        "  Remove one of the two, or give one of them several sources.",
    ),
    Case(
        "starts in a circle",
        GUESSED + "start:\n  - {source: c, target: b}\n  - {source: b, target: c}\n",
        "spec.yaml:7:5 start[1]: start edges form the cycle b -> c -> b; no node of it can start first\n"
        "  Remove one of them.",
    ),
    Case(
        "start from itself",
        GUESSED + "start: [{source: b, target: b}]\n",
        "spec.yaml:5:9 start[0]: start edges form the cycle b -> b; no node of it can start first\n"
        "  Remove one of them.",
    ),
    Case(
        "start from a node named twice",
        GUESSED + "start: [{source: [a, a], target: b}]\n",
        "spec.yaml:5:22 start[0].source[1]: 'a' is named twice as a source of one edge\n  Remove one of the two.",
    ),
    Case(
        "starts that nothing uses",
        FREE + "schedule: {initial: zeros}\nstart: [{source: a, target: b}]\n",
        "spec.yaml:5:1 start: 'start' is for 'schedule.initial: amortised', which is 'zeros'\n"
        "  Write 'schedule: {initial: amortised}', or remove 'start'.",
    ),
    Case(
        "amortised without starts",
        GUESSED,
        "spec.yaml:4:12 schedule.initial: 'amortised' makes first guesses by the edges under 'start', and there are none\n"
        "  Add 'start: [{source: A, target: B}]'.",
    ),
    Case(
        "start of a node in the backbone",
        VGG
        + "schedule: {initial: amortised}\nstart: [{source: e1, target: e2}, {source: e2, target: input}]\n",
        "spec.yaml:5:22 start[0].target: 'e2' starts at what the backbone computes\n"
        "  'start' is for free-standing nodes: those with a 'shape'.\n"
        "spec.yaml:5:48 start[1].target: 'input' starts at what the backbone computes\n"
        "  'start' is for free-standing nodes: those with a 'shape'.",
    ),
    Case(
        "field of an edge on a start",
        GUESSED + "start: [{source: a, target: b, delay: 2}]\n",
        "spec.yaml:5:32 start[0].delay: unknown field 'delay'\n  It belongs to an edge.",
    ),
    Case(
        "start as an arrow",
        GUESSED + "start: [a->b]\n",
        "spec.yaml:5:9 start[0]: expected a mapping of fields, got 'a->b'\n  Write {source: a, target: b}.",
    ),
]

OTHER_FORMATS = [
    Case(
        "JSON field",
        '{\n  "name": "demo",\n  "backbone": {"model": "torchvision:vgg16"},\n'
        '  "nodes": {"e1": "features.3"},\n  "feedback": ["chain", {"source": "e9", "target": "input"}]\n}\n',
        "spec.json:5:26 feedback[1].source: unknown node 'e9'\n  Choose from 'input', 'e1'.",
        ".json",
    ),
    Case(
        "JSON not a number",
        '{"name": "demo", "backbone": {"model": "torchvision:vgg16"}, "nodes": {"e1": "features.3"},\n'
        ' "dynamics": {"error": NaN}}\n',
        "spec.json:2:15 dynamics.error: expected a finite number, got nan",
        ".json",
    ),
    Case(
        "TOML field",
        'name = "demo"\nbackbone = {model = "torchvision:vgg16"}\nnodes = {e1 = "features.3"}\n\n'
        '[schedule]\nsteps = 5\norder = "sweeep"\n',
        "spec.toml:7:1 schedule.order: expected 'synchronous' or 'sweep', got 'sweeep'\n  Did you mean 'sweep'?",
        ".toml",
    ),
    Case(
        "TOML table of edges",
        'name = "demo"\n[backbone]\nmodel = "torchvision:vgg16"\n[nodes]\ne1 = "features.3"\n'
        '[[feedback]]\nsource = "e1"\ntarget = "input"\n[[feedback]]\nsource = "e1"\ntarget = "e3"\n',
        "spec.toml:11:1 feedback[1].target: unknown node 'e3'\n  Choose from 'input', 'e1'.",
        ".toml",
    ),
    Case(
        "TOML date",
        'name = 2024-01-01\nbackbone = {model = "torchvision:vgg16"}\nnodes = {e1 = "features.3"}\n',
        "spec.toml:1:1 name: expected text, got 2024-01-01",
        ".toml",
    ),
]

TRAIN = [
    Case(
        "misspelt optimizer",
        VGG + "train: {optimizer: {name: Adan}}\n",
        "spec.yaml:4:21 train.optimizer.name: expected 'Adam', 'AdamW', 'NAdam', 'RAdam', 'Adamax', 'Adagrad', "
        "'RMSprop' or 'SGD', got 'Adan'\n  Did you mean 'Adam' or 'RAdam' or 'NAdam'?",
    ),
    Case(
        "argument of another optimizer",
        VGG + "train: {optimizer: {momentum: 0.9}}\n",
        "spec.yaml:4:9 train.optimizer: Adam takes no 'momentum'\n  It belongs to RMSprop, SGD.",
    ),
    Case(
        "learning rate in the wrong place",
        VGG + "train: {lr: 0.1}\n",
        "spec.yaml:4:9 train.lr: unknown field 'lr'\n  It belongs under 'train.optimizer'.",
    ),
    Case(
        "all images held out",
        VGG + "train: {validation: 1.0}\n",
        "spec.yaml:4:9 train.validation: expected less than 1, got 1.0",
    ),
    Case(
        "energy task without an energy",
        VGG + "train: {task: energy}\n",
        "spec.yaml:4:9 train.task: the task 'energy' follows an energy, and the dynamics have rule 'predify'\n"
        "  Write 'dynamics: {rule: energy}'.",
    ),
    Case(
        "feedback task with a learning backbone",
        VGG + "train: {task: feedback, learns: [backbone]}\n",
        "spec.yaml:4:25 train.learns: the task 'feedback' leaves the backbone as it is\n"
        "  Write 'task: through_time', or leave 'learns' out.",
    ),
    Case(
        "backbone that there is not",
        FREE + "train: {learns: [backbone]}\n",
        "spec.yaml:4:9 train.learns: this spec has no 'backbone' to learn\n  Leave 'learns' out.",
    ),
    Case(
        "steps of a task that takes none",
        VGG + "train: {steps: 3, rule: bp}\n",
        "spec.yaml:4:9 train.steps: 'steps' belongs to task 'through_time' and 'energy', and this is task "
        "'feedback'\n  Leave it out, or write another 'task'.\n"
        "spec.yaml:4:19 train.rule: 'rule' belongs to task 'energy', and this is task 'feedback'\n"
        "  Leave it out, or write another 'task'.",
    ),
    Case(
        "drops of a rate that has none",
        VGG + "train: {schedule: {kind: cosine, every: 3}}\n",
        "spec.yaml:4:9 train.schedule: 'every' belongs to kind 'step', and this is kind 'cosine'",
    ),
    Case(
        "steps of a rule that takes none",
        FREE + "dynamics: {rule: energy}\ntrain: {steps: 3, rule: zil}\n",
        "spec.yaml:5:9 train.steps: 'steps' changes nothing: rule 'zil' has no number of steps\n"
        "  Leave it out: other rules then take 'schedule.steps'.",
    ),
    Case(
        "unknown label node",
        FREE + "train: {task: through_time, label: d}\n",
        "spec.yaml:4:29 train.label: unknown node 'd'\n  Choose from 'a', 'b', 'c'.",
    ),
    Case(
        "range upside down",
        VGG + "tune: {noise: {gaussian: [1, 0.5]}}\n",
        "spec.yaml:4:16 tune.noise.gaussian: the range [1, 0.5] runs downwards\n  Write the lower end first.",
    ),
    Case(
        "more pixels than there are",
        VGG + "tune: {noise: {salt_pepper: 1.5}}\n",
        "spec.yaml:4:8 tune.noise: a share of 1.5 of the pixels: expected 1 at most",
    ),
    Case(
        "more clean images than there are",
        VGG + "tune: {noise: {gaussian: 1, clean: 1.5}}\n",
        "spec.yaml:4:29 tune.noise.clean: expected at most 1, got 1.5",
    ),
    Case(
        "no step to tune",
        VGG + "tune: {steps: [0, 5]}\n",
        "spec.yaml:4:16 tune.steps[0]: expected more than 0, got 0",
    ),
    Case(
        "tuning of another rule",
        VGG + "dynamics: {rule: energy}\ntune: {steps: 5}\n",
        "spec.yaml:5:1 tune: the values of rule 'predify' are tuned, and the dynamics have rule 'energy'\n"
        "  Write 'dynamics: {rule: predify}', or take 'tune' out.",
    ),
]

CASES = [
    *FILES,
    *TOP_LEVEL,
    *BACKBONE,
    *NODES,
    *EDGES,
    *PREDICTORS,
    *MASKS,
    *DYNAMICS,
    *TOPOLOGY,
    *DESCENT,
    *SCHEDULE,
    *STARTS,
    *TRAIN,
    *BLOCKS,
    *OTHER_FORMATS,
]
