# Every target makes what it needs: .venv on first use, and again when the requirements change.
# PYTHON chooses the interpreter. TORCH is what pip is asked for: on Linux without an NVIDIA card PyTorch's CPU build is
# 200 MB instead of gigabytes; its index is on PyTorch's "get started" page: make samples TORCH="torch --index-url ..."
PYTHON ?= python3
TORCH ?= torch
VENV ?= .venv
MINUTES ?= 1e6
BIN := $(VENV)/bin
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help samples test test-all test-slow test-colab test-current test-browser lint notebooks lab app bench dataset train-default judge address clean

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/installed: requirements.txt pyproject.toml
	@echo "Making $(VENV): PyTorch and a dozen packages, some minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --editable .
	touch $@

# k-diffusion comes without its dependencies: the tests load its samplers only.
$(VENV)/tested: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[test,lint]'
	$(BIN)/pip install --quiet --no-deps k-diffusion
	touch $@

samples: $(VENV)/installed ## sixteen sounds of all categories into samples/, and a picture of them
	$(BIN)/python -m ddnb generate -n 16 --seed 0 --out samples

test: $(VENV)/tested ## the tests, a few minutes
	$(BIN)/python -m pytest

test-all: $(VENV)/tested ## the slow ones too: a full-size network, the wheel
	$(BIN)/python -m pytest -m "not network and not gpu and not browser"

test-slow: $(VENV)/tested ## these slow ones alone
	$(BIN)/python -m pytest -m "slow and not network and not gpu"

test-colab: .venvs/colab/ready ## the notebooks and widgets on Colab's versions
	.venvs/colab/bin/python -m pytest tests/test_widgets.py tests/test_studio.py tests/test_notebooks.py

test-current: .venvs/current/ready ## the same on JupyterLab's
	.venvs/current/bin/python -m pytest tests/test_widgets.py tests/test_studio.py tests/test_notebooks.py

test-browser: .venvs/colab/ready .venvs/current/ready $(VENV)/browser ## the Studio in a real browser; pictures into build/browser
	$(BIN)/python -m pytest -m browser

# Chromium where there is none yet: on Debian and Ubuntu.
$(VENV)/browser: $(VENV)/tested
	$(BIN)/pip install --quiet --editable '.[browser]'
	command -v chromium >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq chromium; }
	touch $@

.venvs/%/ready: tests/constraints-%.txt tools/make_stack.py $(VENV)/tested
	$(BIN)/python tools/make_stack.py $* .venvs/$*
	touch $@

lint: $(VENV)/tested ## ruff, as pre-commit runs it
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

notebooks: $(VENV)/tested ## build notebooks/*.ipynb from notebooks/*.py
	$(BIN)/python tools/build_notebooks.py

lab: $(VENV)/installed ## JupyterLab on the notebooks
	$(BIN)/pip install --quiet --editable '.[lab]'
	$(BIN)/jupyter lab --notebook-dir notebooks

app: $(VENV)/installed ## the Studio as a web page, for this computer only: no code, a kernel per visitor
	$(BIN)/pip install --quiet --editable '.[app]'
	$(BIN)/voila notebooks/studio.ipynb --Voila.ip=127.0.0.1 --TagRemovePreprocessor.remove_cell_tags=notebook

bench: $(VENV)/tested ## the measurements of bench/README.md, an hour
	$(BIN)/python bench/steps.py
	$(BIN)/python bench/full_size.py
	$(BIN)/pip install --quiet lightning
	$(BIN)/python bench/training.py

dataset: $(VENV)/tested ## the recordings for the embedded default into build/ (Debian or Ubuntu with fluidsynth)
	$(BIN)/python -m recipe.prepare build

train-default: $(VENV)/tested ## train the embedded default, or go on with it: make train-default MINUTES=10
	$(BIN)/python -m recipe.train build/runs/drums --minutes $(MINUTES)

judge: $(VENV)/tested ## the figures of the embedded default, into bench/results/drums
	$(BIN)/python -m bench.quality drums --per-category 32 --out bench/results/drums

address: $(VENV)/tested ## write the repository's address everywhere: make address REPO=owner/name REF=main
	$(BIN)/python tools/set_address.py $(REPO) $(REF)
	$(BIN)/python tools/build_notebooks.py

clean: ## remove the environments and what tests leave
	rm -rf $(VENV) .venvs dist .pytest_cache .ruff_cache .hypothesis
