# make demo    boot a guest and show its aborts
# make test    all tests; those that need other packages are skipped without them
# make artifacts  fetch the real guests of the tests: an arm64 kernel, BusyBox, U-Boot (needs apt)
# make fast    compile the machine and the hypervisor for this host; everything uses that by itself
# make check   formatting, lint and types
# make coverage  the tests that need no packages and look at emu/ and hyp/ again, with the gate of their coverage
# make mutants  break the code in one line at a time, and see the tests fail
# make bench   speed, as ratios measured in one run; the figures go to build/bench.json, too
# make guests  rebuild the bundled guests (they are in the tree, too)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run
DEV := $(VENV)/.dev
WORKERS ?= 2

.PHONY: demo fast test artifacts check coverage mutants bench guests clean

demo: $(RUN)
	$(BIN)/stage2 run first_touch --trace

fast: $(DEV)
	$(BIN)/stage2 compile

test: $(DEV)
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

artifacts: $(DEV)
	$(BIN)/python -m tests.real.artifacts

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

coverage: $(DEV)
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not real and not apt" \
		$(addprefix --ignore=tests/,bench docs lab/campaign lab/compiled lab/snapshot) \
		--cov --cov-report=term

mutants: $(DEV)
	$(BIN)/python -m tests.mutants --jobs $(WORKERS)

bench: $(DEV)
	$(BIN)/python -m bench --json build/bench.json

guests: $(DEV)
	$(BIN)/python -m firmware.build

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "stage2 needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

$(RUN): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(DEV): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(RUN)
