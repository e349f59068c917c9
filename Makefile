# `make repro` and `make test` set everything up by themselves; the rest is DVC's own commands in .venv.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
RUN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

.PHONY: help setup repro test test-quick lint lock sample bench

help:
	@echo "make repro       set up, run the pipeline, say where its results are"
	@echo "make test        set up, run all tests        (make test-quick: those without training)"
	@echo "make setup       only set up .venv; nothing to do takes no time"
	@echo "make lint        ruff and mypy"
	@echo "make lock        regenerate requirements.txt from requirements.in"
	@echo "make bench       compare time, memory and masks with other tools, at DeepFashion2's full size (20 minutes)"
	@echo "make sample      draw samples/garments.zip again"

setup: $(VENV)/.done

# --no-deps: requirements.txt is complete, and leaves out on purpose what requirements.exclude names.
$(VENV)/.done: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 10) <= v < (3, 13) else f"error: Python 3.10 to 3.12 is needed, {sys.executable} is {v.major}.{v.minor}; run make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@if [ -e .git ]; then $(VENV)/bin/dvc config --local core.site_cache_dir "$(CURDIR)/.dvc/tmp/site"; fi
	@touch $@

repro: setup
	$(RUN) dvc repro
	@$(VENV)/bin/python stages/summary.py

test: setup
	$(RUN) python -m pytest

test-quick: setup
	$(RUN) python -m pytest -m "not slow"

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

lock: setup
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.10 --excludes requirements.exclude \
		--no-emit-index-url --no-annotate --custom-compile-command "make lock" requirements.in -o requirements.txt

sample: setup
	$(VENV)/bin/python samples/make_garments.py

# The peers go into a folder of their own, so that nothing of them is ever imported by the pipeline.
PEERS := .seamline/bench/peers
bench: setup $(PEERS)/.done
	$(RUN) PYTHONPATH=$(PEERS) python -m bench.run $(BENCH)

$(PEERS)/.done: bench/requirements.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(PEERS) -r $<
	@touch $@
