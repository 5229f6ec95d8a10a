# `make demo` and `make test` each do all of their own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench-execution protos clean

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

# Debian packages and client programs for the tests, where they may be installed.
.PHONY: tools
tools: $(BIN)/.installed
	sh tools/install_debian.sh
	bash tools/install_clients.sh || [ -z "$$CI" ]

demo: $(BIN)/.installed
	sh tools/install_debian.sh bubblewrap
	$(BIN)/python tools/demo.py

test: tools check
	$(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

check: $(BIN)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Figures; ARGS=--save keeps them for the next run to be held against.
bench-execution: $(BIN)/.installed
	$(BIN)/python -m bench.execution $(ARGS)

# The wrapper beside plain cargo and, where PATH, or SCCACHE and KACHE, name them, its peers.
.PHONY: bench-wrapper
bench-wrapper: $(BIN)/.installed
	$(BIN)/python -m bench.wrapper $(ARGS)

# Every mutation of the workspace in tests/mutations; `make test` has a sample of them.
.PHONY: mutations mutations-peers
mutations: $(BIN)/.installed
	DISTBUILD_MUTATIONS=all $(BIN)/python -m pytest tests/mutations -s $(PYTEST_ARGS)

# The same through sccache and kache too, where PATH, or SCCACHE and KACHE, name them.
mutations-peers: $(BIN)/.installed
	PYTHONPATH=tests/support $(BIN)/python -m tests.mutations.peers $(ARGS)

protos: $(BIN)/.installed
	$(BIN)/python tools/generate_stubs.py

clean:
	rm -rf $(VENV) examples/workspace/target
