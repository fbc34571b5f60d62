# Two commands set everything up: `make demo` and `make test`. Both use one virtual environment.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   := build/demo
DOCS   := build/docs
JOBS   ?= 2

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint types unit bench bench-accuracy docs format clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(VENV)/bench-installed: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	@touch $@

demo: $(VENV)/installed ## set up, compile a sample model, run it on a photo, print the profile
	$(MAKE) --no-print-directory -C samples BIN=$(abspath $(BIN)) OUT=$(abspath $(DEMO)) demo

test: lint types unit ## the whole test suite, with lint and types

lint: $(VENV)/installed ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed ## mypy --strict
	$(BIN)/mypy

unit: $(VENV)/installed ## pytest
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal

bench: $(VENV)/installed ## accuracy, speed and memory against PyTorch; every bar of the documentation
	$(BIN)/python -m samples.bench

bench-accuracy: $(VENV)/bench-installed ## INT8: accuracy, time and speed beside onnxruntime's; every bar
	$(BIN)/python -m samples.bench.quantisation

docs: $(VENV)/installed ## the images of the documentation, in docs/images (needs Chromium)
	mkdir -p $(DOCS) docs/images
	$(BIN)/kpuc samples.models.resnet18:resnet18 -o $(DOCS)/resnet18.kpu
	$(BIN)/kpurun $(DOCS)/resnet18.kpu --random 0 --mode power_trace --profile $(DOCS)/resnet18.kprof
	$(BIN)/kpuprof report $(DOCS)/resnet18.kprof -o $(DOCS)/report.html
	$(BIN)/python -m samples.screenshot $(DOCS)/report.html docs/images/report.png
	$(BIN)/kpuprof sweep samples/sweeps/machines.toml --model $(DOCS)/resnet18.kpu \
		-o $(DOCS)/machines.csv --html $(DOCS)/machines.html --png docs/images/pareto.png

format: $(VENV)/installed ## rewrite the sources in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what the build made, keep the environment
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
