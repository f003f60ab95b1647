# Every target sets up what it needs; `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DATA_DIR ?= data
PYTEST_OPTIONS ?=
# One process of tests a core; the tests of a file share what they make.
PARALLEL := --numprocesses auto --dist loadfile

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test,dev]'
	@touch $@

.PHONY: install
install: $(STAMP) ## Make the virtual environment and install EMOMC in it

.PHONY: demo
demo: $(STAMP) ## Train, prune and search LeNet-5 on small real images, and show the front (1 to 2 minutes)
	$(BIN)/emomc-pretrain --config lenet5_digits
	$(BIN)/emomc-search --config lenet5_digits

.PHONY: mnist
mnist: $(STAMP) ## The same on MNIST, found in or downloaded to DATA_DIR
	$(BIN)/emomc-pretrain --config lenet5_mnist --data_dir $(DATA_DIR)
	$(BIN)/emomc-search --config lenet5_mnist --data_dir $(DATA_DIR)

.PHONY: test
test: $(STAMP) ## Run the tests
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL) $(PYTEST_OPTIONS)

.PHONY: test-slow
test-slow: $(STAMP) ## Run the tests that take minutes
	$(BIN)/python -m pytest -m slow $(PARALLEL)

.PHONY: soak
soak: $(STAMP) ## Kill both commands 140 times, run them for long, and write docs/results/reliability.md (40 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.quality.reliability --output docs/results/reliability.md
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.quality.lost_processes --output docs/results/reliability.md
	$(BIN)/python -m pytest -m slow tests/emomc/cli/test_interrupted.py tests/emomc/cli/test_lost_processes.py

.PHONY: fuzz
fuzz: $(STAMP) ## Give every reader 20,000 damaged files and write docs/results/fuzz_readers.md (20 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.quality.fuzz_readers --output docs/results/fuzz_readers.md

.PHONY: mutants
mutants: $(STAMP) ## Change the code in one place at a time, see if the tests notice, and write it there (20 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.quality.mutants --output docs/results/reliability.md

.PHONY: coverage
coverage: $(STAMP) ## Run the tests and name the branches of our own code that none of them takes
	$(BIN)/python -m pytest -m "not slow" --cov --cov-report=term-missing:skip-covered

.PHONY: test-lowest
test-lowest: ## Run the tests with the oldest versions that setup.cfg allows, in an environment of its own
	$(PYTHON) -m venv build/lowest
	build/lowest/bin/python -m pip install --quiet --upgrade pip
	build/lowest/bin/python .ci/lowest_versions.py > build/lowest/constraints.txt
	build/lowest/bin/python -m pip install --quiet --constraint build/lowest/constraints.txt --editable '.[test]'
	build/lowest/bin/python -m pytest -m "not slow" $(PARALLEL) -W default

.PHONY: lint
lint: $(STAMP) ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: $(STAMP) ## Type-check the built wheel, since checkers cannot follow the mapped folders in the source tree
	rm -rf build dist
	$(BIN)/python -m build --quiet --wheel
	$(BIN)/python -m pip install --quiet --no-deps --target build/wheel dist/*.whl
	cd build && MYPYPATH=wheel ../$(BIN)/mypy --config-file ../pyproject.toml -p emomc

.PHONY: clean
clean: ## Remove builds and caches, not runs
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
