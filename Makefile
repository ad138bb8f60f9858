# The project's everyday commands. `make demo` and `make test` work in a fresh clone.

# Tests start many processes, each of which would compile pcgraph anew if no byte code were kept.
export PYTHONDONTWRITEBYTECODE :=

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: install demo test test-fast test-heavy test-slow test-lowest test-newest coverage study lint format docs bench clean

install: $(INSTALLED)

# The stamp makes a second `make` skip the installation until pyproject.toml changes.
$(INSTALLED): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing pcgraph and its tools into $(VENV); the first time takes a few minutes."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/pcgraph demo

# A worker that is done takes tests from the other: long ones at the end keep both busy.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

test: $(INSTALLED)
	$(PYTEST)

# For the edit loop: goldens, oracles, the spec and the units of the core, with a fifth of the random examples.
FAST := $(addprefix tests/,acceleration datasets dynamics files importers learning predictors simulation spec)

test-fast: $(INSTALLED)
	HYPOTHESIS_PROFILE=fast $(PYTEST) -m "not slow and not heavy and not long" $(FAST)

# Which lines of pcgraph/ no test runs; what a test starts as a process of its own does not count.
coverage: $(INSTALLED)
	$(PYTEST) --cov=pcgraph --cov-report=term-missing:skip-covered

# What starts processes, runs large models, damages files or interrupts.
test-heavy: $(INSTALLED)
	$(PYTEST) -m "heavy and not slow"

# What is marked `slow`, and 25 times the random examples.
test-slow: $(INSTALLED)
	$(PYTEST) -m slow
	HYPOTHESIS_PROFILE=thorough $(PYTEST) -m hypothesis

# The oldest versions that pyproject.toml allows, and the newest; .ci/versions says how.
test-lowest test-newest: test-%:
	.ci/versions $*

# Which feedback helps the shipped network (specs/studies/which_feedback.yaml).
study: $(INSTALLED)
	$(BIN)/pcgraph study which_feedback

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Also writes the parts of the pages that are made from the code.
docs: $(INSTALLED)
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# All benchmarks, or some: make bench CASES="vgg16 memory"
bench: $(INSTALLED)
	$(BIN)/python benchmarks/run.py $(CASES) --json bench.json

clean:
	rm -rf $(VENV) .venv-lowest .venv-newest build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
