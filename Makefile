# `make demo` and `make test` need Python 3.9 to 3.13, make and git; they set up .venv by themselves.
SHELL := /bin/bash
SUITABLE := import ensurepip, sys, venv; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.1{3,2,1,0} python3.9; do $$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready
PYTHON39 ?= python3.9
LOWEST := .venv-lowest/bin
TORCH_FROM ?= --torch-backend=cpu
INSTALL := -m pip install --quiet -c constraints.txt

# RecBole requires a ray that has no wheel for Python 3.12 and later. There it is installed without its requirements, and
# the extra `py312` brings the others (docs/compatibility.md).
NO_RAY := import sys; sys.exit(sys.version_info < (3, 12))

.PHONY: demo test test-lowest lint check format bench bench-gpu trust pages docs lock clean

demo: $(READY)
	$(BIN)/python run_hetcomp.py --config_files=properties/presets/demo.yaml

# Two tests at a time, each in one thread.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# With the lowest versions that setup.py declares.
test-lowest: .venv-lowest/.ready
	$(LOWEST)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy recbole_hetcomp

check: lint test

bench: $(READY)
	$(BIN)/python benchmarks/run.py

# Kills, twins, small disks and damaged files; about an hour. PART=0.1 makes a tenth of it.
trust: $(READY)
	$(BIN)/python benchmarks/trust --part=$(or $(PART),1)

pages: $(READY)
	$(BIN)/python benchmarks/pages

# The site, in build/site: its pages are the repository's own.
docs: build/docs-env/.ready
	rm -rf build/pages && mkdir -p build/pages/benchmarks
	cp -r README.md CHANGELOG.md SECURITY.md LICENSE docs results build/pages
	cp benchmarks/results.md build/pages/benchmarks
	rm -rf build/pages/results/data
	build/docs-env/bin/mkdocs build --quiet

build/docs-env/.ready: setup.py
	$(PYTHON) -m venv build/docs-env
	build/docs-env/bin/pip install --quiet mkdocs-material "mkdocstrings[python]" mkdocs-jupyter
	touch $@

bench-gpu: $(READY)
	$(BIN)/python benchmarks/gpu.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The versions of constraints.txt and of what they need, with hashes (docs/compatibility.md). torch is its CPU build.
lock: $(READY)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --no-annotate --no-emit-find-links --custom-compile-command "make lock" --generate-hashes \
		--python-version 3.11 --python-platform x86_64-manylinux_2_28 --extra dev --extra tune --extra export -c constraints.txt \
		$(TORCH_FROM) -o requirements.lock setup.py

$(READY): setup.py constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python from 3.9 to 3.13 with venv found: install one (Debian: python3-venv)"; exit 2; }
	@echo "installing into .venv; this takes a few minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/python $(INSTALL) --upgrade pip
	$(BIN)/python $(INSTALL) torch
	@if $(BIN)/python -c '$(NO_RAY)'; then \
		$(BIN)/python $(INSTALL) --no-deps recbole && $(BIN)/python $(INSTALL) -e '.[dev,tune,export,py312]'; \
	else \
		$(BIN)/python $(INSTALL) -e '.[dev,tune,export]'; \
	fi
	touch $@

.venv-lowest/.ready: setup.py constraints-lowest.txt
	$(PYTHON39) -m venv .venv-lowest
	$(LOWEST)/python -m pip install --quiet -c constraints-lowest.txt -e '.[tune]' pytest hypothesis
	touch $@

clean:
	rm -rf .venv .venv-lowest build dist *.egg-info
