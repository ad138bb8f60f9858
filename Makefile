# The project's everyday commands. `make demo` and `make test` work in a fresh clone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: install demo test test-slow test-lowest test-newest lint format docs bench clean

install: $(INSTALLED)

# The stamp makes a second `make` skip the installation until pyproject.toml changes.
$(INSTALLED): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing pcgraph and its tools into $(VENV); the first time takes a few minutes."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/pcgraph demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 -m slow

# The oldest versions that pyproject.toml allows, and the newest; .ci/versions says how.
test-lowest test-newest: test-%:
	.ci/versions $*

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

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
