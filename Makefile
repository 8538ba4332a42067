# `make demo` and `make test` need Python 3.9, 3.10 or 3.11, make and git; they set up .venv by themselves.
SHELL := /bin/bash
SUITABLE := import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 11))
PYTHON ?= $(shell for p in python3.11 python3.10 python3.9 python3; do $$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint check format bench bench-gpu pages clean

demo: $(READY)
	$(BIN)/python run_hetcomp.py --config_files=properties/presets/demo.yaml

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy recbole_hetcomp

check: lint test

bench: $(READY)
	$(BIN)/python benchmarks/run.py

pages: $(READY)
	$(BIN)/python benchmarks/pages

bench-gpu: $(READY)
	$(BIN)/python benchmarks/gpu.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): setup.py constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.9, 3.10 or 3.11 found: install one, or see README.md for Python 3.12 and later"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,tune]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
