# `make repro` and `make test` set everything up by themselves; the rest is DVC's own commands in .venv.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
RUN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

.PHONY: help setup repro test test-quick test-thorough check-results release-check coverage lint hooks audit lock doctor sample bucket recipe seeds sweep bench load-test \
	mutants image-test clear-trainings

help:
	@echo "make repro       set up, run the pipeline, print the results and where they are"
	@echo "make test        set up, test the code        (make test-quick: in a minute; make test-thorough: what takes long)"
	@echo "make check-results  check that the committed results belong to the committed code"
	@echo "make coverage    print how much of each module the tests reach; fail if it is too little where it matters"
	@echo "make setup       only set up .venv; takes no time if it is up to date"
	@echo "make doctor      print what would fail and how to fix it, before hours are spent"
	@echo "make lint        check style, types, rooms, sizes, words, Dockerfiles, workflows    (make hooks: before each commit)"
	@echo "make lock        pin the packages of pyproject.toml in requirements.txt and requirements-cpu.txt"
	@echo "make recipe      run the pipeline on a known dataset with a GPU: NAME=... SOURCE=... (docs/datasets.md)"
	@echo "make sweep       search for the best hyperparameters, as section sweep of params.yaml says"
	@echo "make seeds       train with three seeds, or SEEDS='0 1 2 3 4', and write how far the results differ (an hour)"
	@echo "make clear-trainings  list the finished trainings that are kept, and delete them"
	@echo "make bench       compare time, memory and masks with other tools, at the full size of DeepFashion2 (25 minutes)"
	@echo "make load-test   measure the service under load, beside others' servers (a quarter of an hour): reports/serving.json"
	@echo "make mutants     change lines on purpose and see whether the tests notice (an hour; ALL=1: all lines, a night)"
	@echo "make bucket      start an S3 server on this machine with the sample in it, to try the pipeline with (Ctrl-C ends it)"
	@echo "make image-test  build the container image for the CPU with buildah and test it (docs/containers.md)"
	@echo "make audit       look for known vulnerabilities of the packages; needs internet"
	@echo "make sample      draw samples/garments.zip and tshirts.zip again"

setup: $(VENV)/.done

# What adds to DVC's messages. What it took the place of, seamline-here.pth, ran code of the folder that `dvc` was run in.
HINT := dvc_hint/seamline_dvc_hint.py dvc_hint/seamline_dvc_hint.pth

# The programs in .venv and DVC's configuration name this folder: where it was renamed or moved, they are made anew.
# So where its Python is gone, or where `make PYTHON=...` asks for another one.
ifneq ($(shell test -x $(VENV)/bin/python && cat $(VENV)/.done),$(CURDIR))
MOVED := moved
else ifeq ($(origin PYTHON),command line)
VERSION := -c "import sys; print(*sys.version_info[:3])"
ifneq ($(shell $(PYTHON) $(VERSION)),$(shell $(VENV)/bin/python $(VERSION)))
MOVED := moved
endif
endif
.PHONY: moved
# uv takes a quarter of pip's time: the one on PATH, else that of requirements.txt, which pip installs. It does not read pip's
# settings; where those name an index, and there is no uv on PATH with settings of its own, pip installs everything.
PIP := $(VENV)/bin/python -m pip
PIP_INSTALL := $(PIP) install --quiet --disable-pip-version-check --no-deps
UV_INSTALL := uv pip install --quiet --compile-bytecode --no-deps --python $(VENV)/bin/python
define install
@PATH="$$PATH:$(CURDIR)/$(VENV)/bin"; if command -v uv > /dev/null; then $(UV_INSTALL) $(1) && exit; fi; $(PIP_INSTALL) $(1)
endef

# --no-deps: requirements.txt is complete, and leaves out on purpose what requirements.exclude names.
$(VENV)/.done: requirements.txt pyproject.toml $(HINT) $(MOVED)
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 15) else f"error: Python 3.11 to 3.14 is needed, {sys.executable} is {v.major}.{v.minor}; run make PYTHON=python3.11 ...")'
	@echo "setting up $(VENV): 7 GB, some minutes"
	$(PYTHON) -m venv $(if $(MOVED),--clear) $(VENV)
	@command -v uv > /dev/null || $(PIP) config list | grep -q '\.index-url=' || $(PIP_INSTALL) "$$(grep '^uv==' requirements.txt)"
	$(call install,-r requirements.txt)
	$(call install,--no-build-isolation --editable .)
	@packages="$$($(VENV)/bin/python -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
		&& cp $(HINT) "$$packages" && rm -f "$$packages/seamline-here.pth"
	@if [ -e .dvc ]; then $(VENV)/bin/dvc config --local core.site_cache_dir "$(CURDIR)/.dvc/tmp/site"; fi
	@echo "$(CURDIR)" > $@

repro: setup
	$(RUN) dvc repro
	@$(VENV)/bin/python -m seamline summary

# Also where the Python of .venv is gone: then the system's runs it.
doctor: setup
	@$(RUN) python3 -m seamline doctor

# On all cores, four at most, since more of them need more memory than many machines have; a file's tests stay together.
# Bytecode is kept even where the environment forbids it: hundreds of processes would compile the same modules again.
PYTEST := PYTHONDONTWRITEBYTECODE= python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: setup
	$(RUN) $(PYTEST)

test-quick: setup
	$(RUN) $(PYTEST) -m "not slow and not process and not thorough"

# What `make test` leaves out since it takes too long for every time: docs/inside.md says what that is.
test-thorough: setup
	$(RUN) $(PYTEST) -m thorough

# The results that are committed belong to the code, parameters and data that are, and are as good as promised.
check-results: setup
	$(RUN) python -m pytest --durations=0 --durations-min=60 --tb=line checks

# Both commands in every state of a user's folder, on every Python: before a release, since it takes hours.
release-check: setup
	$(RUN) python -m checks.release $(RELEASE)

# Without whole pipelines; what stages do in processes of their own is not counted.
coverage: setup
	$(RUN) $(PYTEST) -m "not slow and not thorough" --cov=seamline --cov-branch --cov-report=json:.seamline/coverage/coverage.json \
		--cov-report=html:.seamline/coverage/html
	$(RUN) python tests/branches.py .seamline/coverage/coverage.json

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo --no-cache
	$(VENV)/bin/python -m checks.sizes
	$(VENV)/bin/python -m checks.words
	$(VENV)/bin/python -m checks.imports
	$(VENV)/bin/bandit --quiet --configfile pyproject.toml --recursive seamline stages dvc_hint
	$(VENV)/bin/hadolint Dockerfile.cpu Dockerfile.gpu deploy/Dockerfile.model
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

hooks: setup
	$(VENV)/bin/pre-commit install

# Known vulnerabilities of the pinned packages; needs internet. pip-audit runs in an environment of its own.
UV := $(VENV)/bin/uv
audit:
	$(UV) tool run pip-audit@2.10.1 --disable-pip --no-deps --progress-spinner off --requirement requirements.txt

# Pins that are there stay: make lock NEWEST="ultralytics dvc" takes these packages' newest versions, NEWEST=all everybody's.
LOCK := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --excludes requirements.exclude \
	--no-emit-index-url --no-annotate --custom-compile-command "make lock" pyproject.toml
lock: setup
	$(LOCK) --all-extras --group dev $(if $(filter all,$(NEWEST)),--upgrade,$(NEWEST:%=--upgrade-package=%)) -o requirements.txt
	$(LOCK) --extra s3 --extra fonts --extra benchmark --extra serve --constraints requirements.txt -o requirements-cpu.txt

# A dataset's parameters from recipes/, and their run: make recipe NAME=deepfashion2-500 SOURCE=../deepfashion2
recipe: setup
	$(RUN) python -m seamline recipe "recipes/$(NAME).yaml" "$(SOURCE)"
	$(RUN) dvc repro
	@$(VENV)/bin/python -m seamline summary

# A search over hyperparameters, a DVC experiment a trial.
sweep: setup
	$(RUN) python -m seamline sweep $(SWEEP)

# How far results lie apart by the seed alone, a training each: make seeds SEEDS="0 1 2 3 4"
SEEDS ?= 0 1 2
seeds: setup
	$(RUN) python -m seamline seeds --seeds $(SEEDS)

# So that train trains again where the same was trained before.
clear-trainings: setup
	@$(RUN) python -m seamline trainings --clear

# With buildah and as root: see containers/image_test.py.
IMAGES ?= cpu
image-test: setup
	@$(VENV)/bin/python containers/image_test.py $(IMAGES) $(IMAGE_TEST)

sample: setup
	$(VENV)/bin/python -m samples.make_garments
	$(VENV)/bin/python -m samples.make_tshirts

PORT ?= 5555
bucket: setup
	@$(VENV)/bin/python samples/serve_bucket.py --port $(PORT)

# The peers go into a folder of their own, so that nothing of them is ever imported by the pipeline.
PEERS := .seamline/bench/peers
bench: setup $(PEERS)/.done
	$(RUN) PYTHONPATH=$(PEERS) python -m bench.run $(BENCH)
	$(RUN) PYTHONPATH=$(PEERS) python -m bench.fetch
	$(RUN) python -m bench.search

$(PEERS)/.done: bench/requirements.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(PEERS) -r $<
	@touch $@

# The service under load, beside others' servers, which go into a folder of their own too. LOAD="--only one-client four"
SERVING_PEERS := .seamline/serving-peers
load-test: setup $(SERVING_PEERS)/.done
	$(RUN) python -m bench.serving $(LOAD)

$(SERVING_PEERS)/.done: bench/serving-requirements.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(SERVING_PEERS) -r $<
	@touch $@

# mutmut goes into a folder of its own too. Rooms and tests: checks/mutants.toml. MUTANTS="masks splits" takes these rooms alone.
MUTMUT := .seamline/mutmut
mutants: setup $(MUTMUT)/.done
	$(RUN) PYTHONPATH="$(CURDIR)/$(MUTMUT)" python -m checks.mutants $(if $(ALL),--all) $(MUTANTS)

$(MUTMUT)/.done: checks/mutants-requirements.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(MUTMUT) -r $<
	@touch $@
