# Every target creates what it needs: .venv on first use, and again when the requirements change.
# PYTHON selects the interpreter. TORCH is what pip installs as torch: on Linux without an NVIDIA card, PyTorch's CPU
# build is 200 MB instead of gigabytes; its index is on PyTorch's "get started" page: make samples TORCH="torch --index-url ..."
# JOBS is the number of test processes: "logical" is one for each core.
PYTHON ?= python3
TORCH ?= torch
VENV ?= .venv
JOBS ?= logical
MINUTES ?= 1e6
BIN := $(VENV)/bin
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# "worksteal" keeps the tests of a file on one worker while both are busy, so that what a file shares is made once.
PARALLEL := -n $(JOBS) --maxprocesses 8 --dist worksteal
# Whole notebooks share their execution between tests: all tests of a notebook run on one worker.
PARALLEL_NOTEBOOKS := -n $(JOBS) --maxprocesses 4 --dist loadgroup
STACK_TESTS := tests/test_widgets.py tests/test_hostile_names.py tests/test_studio.py tests/test_notebooks.py
STACK_MARKS := not slow and not network and not gpu and not browser
# This computer only, under none but its own names, and no pictures from the folder of the notebook.
APP_CLOSED := --Voila.ip=127.0.0.1 --Voila.tornado_settings="{'allow_remote_access': False}" \
	--VoilaConfiguration.file_denylist=".*"
# They compare with today's diffusers, which does not run on the oldest versions.
WITH_DIFFUSERS := (todays_diffusers or agrees_with_diffusers or opens_in_diffusers)

.PHONY: help samples wheel test test-all test-slow test-notebooks test-colab test-current test-lowest test-browser lint notebooks lab app bench dataset train-default tune-default judge address clean

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/installed: requirements.txt pyproject.toml
	@echo "Creating $(VENV): PyTorch and a dozen packages, some minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --editable .
	touch $@

# k-diffusion is installed without its dependencies: the tests load its samplers only.
$(VENV)/tested: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[test,lint]'
	$(BIN)/pip install --quiet --no-deps k-diffusion
	touch $@

samples: $(VENV)/installed ## write sixteen sounds of all categories into samples/, and a picture of them
	$(BIN)/python -m ddnb generate -n 16 --seed 0 --out samples

wheel: $(VENV)/tested ## write dist/ddnb-*.whl, with model and registry, for Colab and machines without the checkout
	$(BIN)/python -m build --wheel --outdir dist .

test: $(VENV)/tested ## the default tests, at most 5 minutes on two cores
	$(BIN)/python -m pytest $(PARALLEL)

test-all: $(VENV)/tested ## the default tests, the slow ones and the notebooks
	$(BIN)/python -m pytest $(PARALLEL) -m "not network and not gpu and not browser"

test-slow: $(VENV)/tested ## a full-size network, the wheel, and every property test with four times the examples
	$(BIN)/python -m pytest $(PARALLEL) -m "slow and not network and not gpu"
	$(BIN)/python -m pytest $(PARALLEL) --hypothesis-profile thorough -m "hypothesis and not slow and not network and not gpu"

test-notebooks: $(VENV)/tested ## run every notebook from top to bottom
	$(BIN)/python -m pytest $(PARALLEL_NOTEBOOKS) -m notebooks tests/test_notebooks.py

test-colab: .venvs/colab/ready ## widgets, Studio and notebooks on Colab's versions
	.venvs/colab/bin/python -m pytest $(PARALLEL_NOTEBOOKS) -m "$(STACK_MARKS)" $(STACK_TESTS)

test-current: .venvs/current/ready ## widgets, Studio and notebooks on JupyterLab's versions
	.venvs/current/bin/python -m pytest $(PARALLEL_NOTEBOOKS) -m "$(STACK_MARKS)" $(STACK_TESTS)

test-lowest: .venvs/lowest/ready ## the default tests on the oldest versions that requirements.txt accepts (Python 3.10 or 3.11)
	.venvs/lowest/bin/python -m pytest $(PARALLEL) -k "not $(WITH_DIFFUSERS)"

test-browser: .venvs/colab/ready .venvs/current/ready $(VENV)/browser ## the Studio in a real browser; pictures into build/browser
	$(BIN)/python -m pytest $(PARALLEL) -m browser

# Installs Chromium where it is missing: on Debian and Ubuntu.
$(VENV)/browser: $(VENV)/tested
	$(BIN)/pip install --quiet --editable '.[browser]'
	command -v chromium >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq chromium; }
	touch $@

.venvs/%/ready: tests/constraints-%.txt tools/make_stack.py $(VENV)/tested
	$(BIN)/python tools/make_stack.py $* .venvs/$*
	touch $@

lint: $(VENV)/tested ## style, formatting, import direction and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python tools/draw_imports.py
	$(BIN)/mypy

notebooks: $(VENV)/tested ## build notebooks/*.ipynb from notebooks/*.py
	$(BIN)/python tools/build_notebooks.py

lab: $(VENV)/installed ## open the notebooks in JupyterLab
	$(BIN)/pip install --quiet --editable '.[lab]'
	$(BIN)/jupyter lab --notebook-dir notebooks

app: $(VENV)/installed ## open the Studio as a web page on this computer only: no code, one kernel per visitor
	$(BIN)/pip install --quiet --editable '.[app]'
	$(BIN)/voila notebooks/studio.ipynb --TagRemovePreprocessor.remove_cell_tags=notebook $(APP_CLOSED)

bench: $(VENV)/tested ## the first three measurements of bench/README.md, an hour
	$(BIN)/python -m bench.steps
	$(BIN)/python -m bench.full_size
	$(BIN)/pip install --quiet lightning
	$(BIN)/python -m bench.training

dataset: $(VENV)/tested ## prepare the recordings for the embedded default in build/ (Debian or Ubuntu with fluidsynth)
	$(BIN)/python -m recipe.prepare build

train-default: $(VENV)/tested ## train the embedded default, or resume its training: make train-default MINUTES=10
	$(BIN)/python -m recipe.train build/runs/drums --minutes $(MINUTES)

tune-default: $(VENV)/tested ## add tones to the trained network: build/drums.safetensors
	$(BIN)/python -m recipe.tune build/runs/drums/last.safetensors build/drums.safetensors

judge: $(VENV)/tested ## measure the embedded default, results in bench/results/drums
	$(BIN)/python -m bench.judge drums --per-category 32 --out bench/results/drums

address: $(VENV)/tested ## write the repository's address everywhere: make address REPO=owner/name REF=main
	$(BIN)/python tools/set_address.py $(REPO) $(REF)
	$(BIN)/python tools/build_notebooks.py

clean: ## remove the environments and the caches of the tools
	rm -rf $(VENV) .venvs dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
