# `make demo` and `make test` are all a newcomer needs; both make their own .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test test-fast lint types docs site wheel-check install clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(STAMP)  ## the whole way once on the CPU: faces, training, export, engines, a labelled photograph
	$(BIN)/edgefel demo -o demo

# the tests start hundreds of processes: what they import is compiled once, whatever the caller's settings
unexport PYTHONDONTWRITEBYTECODE

# a file's tests share models and graphs that take long to make: each file goes to one process
# the order is that of tests/conftest.py, not by the number of tests in a file
# a process that dies ends the run: pytest-xdist would wait for its tests for ever (loadfile does not give them out again)
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test: $(STAMP)  ## run the tests
	$(BIN)/python -m pytest $(PARALLEL)

test-fast: $(STAMP)  ## run the tests that take seconds
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

lint: $(STAMP)  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## check types
	$(BIN)/python tools/check_types.py

docs: $(STAMP)  ## fill the tables of README.md and docs/ from docs/results
	$(BIN)/python tools/docs_tables.py

site: $(STAMP)  ## build the docs as a site: build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel-check: $(STAMP)  ## build the wheel; it must hold every package, no top-level name but edgefel, and networks that run
	$(BIN)/python tools/check_wheel.py

install: $(STAMP)  ## make .venv with everything for development

$(STAMP): pyproject.toml constraints-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: development needs Python 3.11 or newer; set one with: make PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
		{ echo "error: this Python cannot make virtual environments; on Debian: apt install python3-venv"; exit 2; }
	@echo "Installing into $(VENV) (PyTorch, ONNX, TensorRT for RTX: about 3 GB, some minutes the first time)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $$([ -t 1 ] || echo --quiet) --disable-pip-version-check -e '.[dev]' -c constraints-dev.txt
	@touch $(STAMP)

clean:  ## remove what the other targets made
	rm -rf $(VENV) build dist demo edgefel.egg-info
