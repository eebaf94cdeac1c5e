# Rapport: the two commands that matter are `make reports` and `make test`; `make help` lists all.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Conda users: make ... PY=python, inside the environment that environment.yml describes.
VENV := .venv
PY ?= $(VENV)/bin/python
PYTHON ?= python3
UV_VERSION := 0.13.9
STUDY ?=
JOBS ?= 2
ARGS ?=
ONLY ?=
REPLICATIONS ?=

export PYTHONPATH := $(CURDIR)/src
export PYTHONHASHSEED := 0
# Every notebook starts a process: without compiled modules each would compile the libraries anew.
unexport PYTHONDONTWRITEBYTECODE
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1

ifeq ($(PY),$(VENV)/bin/python)
ENVIRONMENT := $(VENV)/.ready
endif

.PHONY: help reports test check-study new-study lab notebooks scorecard bench coverage torture serve lint lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  For one study: make reports STUDY=cdnow. For some tests: make test ARGS='tests/published -q'."

$(VENV)/.ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; say which: make ... PYTHON=python3.11"; exit 1; }
	@echo "Setting up $(VENV): about 2 GB on disk and one to five minutes, once."
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV) || { echo "the venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(VENV)/bin/uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python --require-hashes -r requirements.lock
	@echo "$(CURDIR)/src" > "$$($(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/rapport.pth"
	@touch $@

reports: $(ENVIRONMENT)  ## run what changed and publish to reports/ (STUDY=name for one study)
	@$(PY) -m analysis.run reports $(STUDY) --jobs $(JOBS)

# All tests side by side, a file at a time; those that ARGS names one after the other, so that -s and --pdb work.
test: $(ENVIRONMENT)  ## run all tests (ARGS= for pytest's arguments)
	@# DuckDB's binding reports objects that live until the interpreter ends; harmless, and it would hide pytest's summary.
	@$(PY) -m pytest $(or $(ARGS),--numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder) 2> >(grep -Ev '^nanobind: |^ - leaked |^ - \.\.\. skipped|nanobind\.readthedocs' >&2)

scorecard: $(ENVIRONMENT)  ## simulated companies: what was planted, what was found (STUDY=name for one)
	@$(PY) -m analysis.run scorecard $(STUDY) --jobs $(JOBS)

check-study: $(ENVIRONMENT)  ## validate a study's files and data, running nothing (STUDY=name)
	@test -n "$(STUDY)" || { echo "say which: make check-study STUDY=name"; exit 1; }
	@$(PY) -m analysis.run check $(STUDY)

new-study: $(ENVIRONMENT)  ## make a study folder from the template (NAME=name)
	@test -n "$(NAME)" || { echo "say its name: make new-study NAME=mine"; exit 1; }
	@$(PY) -m analysis.run new $(NAME)

lab: $(ENVIRONMENT)  ## open the notebooks in JupyterLab
	@$(PY) -m jupyterlab --notebook-dir=notebooks

notebooks: $(ENVIRONMENT)  ## re-execute and normalise the committed notebooks
	@$(PY) -m analysis.run notebooks

bench: $(ENVIRONMENT)  ## what notebooks, size, cleaning and models cost (ONLY=walk, scale, cleaning, valuation, segmentation, loyalty or campaigns; SIZE=full)
	@$(if $(filter-out walk,$(ONLY)),,$(PY) benchmarks/walk.py $(STUDY))
	@$(if $(filter-out scale,$(ONLY)),,$(PY) benchmarks/scale.py)
	@$(if $(filter-out cleaning,$(ONLY)),,$(PY) benchmarks/cleaning.py)
	@$(if $(filter-out valuation,$(ONLY)),,$(PY) benchmarks/valuation.py)
	@$(if $(filter-out segmentation,$(ONLY)),,$(PY) benchmarks/segmentation.py)
	@$(if $(filter-out loyalty,$(ONLY)),,$(PY) benchmarks/loyalty.py)
	@$(if $(filter-out campaigns,$(ONLY)),,$(PY) benchmarks/campaigns.py)

coverage: $(ENVIRONMENT)  ## how often intervals hold the truth (REPLICATIONS=2000; ONLY=value, ate, path, sizes, link, effects, uplift or peeking)
	@ONLY=$(ONLY) REPLICATIONS=$(REPLICATIONS) $(PY) benchmarks/coverage.py

torture: $(ENVIRONMENT)  ## kill a run in every notebook, run again, compare bytes
	@PYTHONPATH=$(CURDIR)/src:$(CURDIR) $(PY) -m tests.torture

serve: $(ENVIRONMENT)  ## look at the site on http://localhost:8000
	@$(PY) -m http.server --directory reports --bind 127.0.0.1 8000

lint: $(ENVIRONMENT)  ## check style
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

lock: $(ENVIRONMENT)  ## resolve requirements.lock again from pyproject.toml
	@$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --group dev pyproject.toml -o requirements.lock

clean:  ## remove what was made: results, reports, environment (never raw data, exports, private, history)
	rm -rf data/processed reports build $(VENV) .pytest_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
