# One command runs the main job, one passes the tests. Needs Python 3.11, make and a package registry; nothing else.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
VIDEO ?=
AUDIO ?=
# The tests of one file run in one process, so what they share is built once. More processes than cores would let several
# Ray clusters run beside each other, and tests with time limits fail.
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile
HOUSE_TESTS := tests/unit/test_house.py tests/unit/test_imports.py tests/unit/docs/test_docs_links.py

.PHONY: help demo up down status check fix test test-faults test-clusters test-fuzz test-openapi docs figures lock release clean

help:
	@echo "make demo                         two synthetic people: fitted, registered, promoted, speaking (10 minutes)"
	@echo "make demo VIDEO=\"a.mp4 b.mp4\" AUDIO=speech.wav    the same with your own files"
	@echo "make up | status | down           the service stack with the render API: start, look, stop"
	@echo "make check                        layout, lint, types, spelling, links, house rules (a minute or two)"
	@echo "make fix                          repair what check can repair by itself"
	@echo "make test                         the whole test suite"
	@echo "make test-faults                  break each part of a running service and look at what is left (FULL=1: every step)"
	@echo "make test-clusters                fits on Ray clusters of several nodes, also one at zero that grows and shrinks"
	@echo "make test-fuzz                    change media files box by box and read each, for two minutes"
	@echo "make test-openapi                 longer sequences of API calls that follow each other (SEED=1 WORKFLOWS=400)"
	@echo "make docs                         the generated pages and tables of docs/ anew"
	@echo "make figures                      files and lines of each folder, longest file and function, import circles"
	@echo "make release                      a wheel in dist/, tried in a clean environment"
	@echo "make lock                         resolve requirements.lock anew"

# A changed lock installs again, an unchanged one costs nothing. Kernels are compiled here, once for this processor.
$(STAMP): requirements.lock pyproject.toml clients/python/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . --editable clients/python
	$(BIN)/m2dao assets compile
	@touch $(STAMP)

demo: $(STAMP)
	@$(BIN)/python -m examples.demo.run $(if $(VIDEO),--video $(VIDEO)) $(if $(AUDIO),--audio $(AUDIO))

up: $(STAMP)
	@$(BIN)/m2dao-cluster up
	@$(BIN)/m2dao-serve deploy

status: $(STAMP)
	@$(BIN)/m2dao-cluster status

down: $(STAMP)
	@$(BIN)/m2dao-cluster down

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python -m pytest $(HOUSE_TESTS)

fix: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/codespell --write-changes

test: $(STAMP)
	@$(PYTEST) -m "not cell and not clusters" tests/integration tests/faults tests/e2e; services=$$?; \
	$(PYTEST) tests/unit tests/parity tests/gpu; computing=$$?; exit $$((services | computing))

# One deployment for all cells, one process: what is broken must be the only thing that is.
test-faults: $(STAMP)
	@$(BIN)/python -m tests.faults

# Each cluster needs the cores for itself. RECORD=1 writes what was seen into docs/results.
test-clusters: $(STAMP)
	@$(BIN)/python -m pytest -m clusters tests/integration/train_jobs

# The same files on every machine, as many as two minutes allow. Other seeds and hours are for people.
test-fuzz: $(STAMP)
	@$(BIN)/python -m tests.support.media.fuzz --minutes 2 --seed 1 --files 10000

SEED ?= 1
WORKFLOWS ?= 400
test-openapi: $(STAMP)
	@M2DAO_TEST_SEED=$(SEED) M2DAO_TEST_WORKFLOWS=$(WORKFLOWS) $(BIN)/python -m pytest \
	  tests/integration/clients/test_openapi_stateful.py

docs: $(STAMP)
	@$(BIN)/python -m tools.docs

figures: $(STAMP)
	@$(BIN)/python -m tests.house

lock: $(STAMP)
	$(BIN)/python -m pip freeze --exclude-editable > requirements.lock

release: check
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	rm -rf build *.egg-info  # left here, its old entry points would hide those that are installed
	tests/release/smoke.sh dist/m2dao-*.whl $(PYTHON)

clean:
	rm -rf $(VENV) out build dist *.egg-info
