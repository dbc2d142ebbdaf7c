# make demo: from nothing to a map. make test: from nothing to tested. Both make their own environment in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PACKAGES := dynamo plugins tests benchmarks examples $(wildcard docs/*.py)

DEMO ?= demo

.PHONY: help demo test test-gpu test-slow lint docs format gallery figure3 clean

help:
	@echo "make demo       train a small population on handwritten digits and report on its map (in ./$(DEMO))"
	@echo "make test       style, types, import rules, docs and the test suite"
	@echo "make test-slow  the tests that take long"
	@echo "make test-gpu   the tests that need a GPU of NVIDIA (about two minutes)"
	@echo "make docs       build the docs as a site, in build/docs"
	@echo "make format     put the code into the house style"
	@echo "make gallery    five maps with their reports, in build/gallery (about a quarter of an hour)"
	@echo "make figure3    the paper's Figure 3 on real texts (about an hour; see benchmarks/README.md)"

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dynamo needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python's venv module is missing (on Debian: apt-get install python3-venv)"; exit 1; }
	@echo "installing into $(VENV): PyTorch is large, this takes some minutes"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $(READY)

demo: $(READY)
	@if [ -e $(DEMO) ]; then echo "$(DEMO) exists already: look at it with '$(BIN)/dynamo show $(DEMO)/run', or remove it"; exit 1; fi
	$(BIN)/dynamo train $(DEMO)/population --architecture gru:hidden_size=32 --architecture rnn:hidden_size=32 \
	  --dataset digits-rows --seeds 6 --epochs 12 --batch-size 32 --learning-rate 3e-3
	$(BIN)/dynamo fit $(DEMO)/population --out $(DEMO)/run --preset laptop --steps 600 --colour-by architecture
	$(BIN)/dynamo analyse clusters $(DEMO)/run --by architecture
	$(BIN)/dynamo report $(DEMO)/run --colour-by architecture

test: $(READY) lint docs
	$(BIN)/python -m pytest -q

test-gpu: $(READY)
	$(BIN)/python -m pytest -q -m gpu

test-slow: $(READY)
	$(BIN)/python -m pytest -q -m slow --timeout 3600

lint: $(READY)
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

docs: $(READY)
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs
	@echo "the docs are in build/docs/index.html"

format: $(READY)
	$(BIN)/ruff check --fix $(PACKAGES)
	$(BIN)/ruff format $(PACKAGES)

gallery: $(READY)
	$(BIN)/python docs/make_gallery.py

figure3: $(READY)
	$(BIN)/python benchmarks/figure3.py --out figure3

clean:
	rm -rf $(VENV) $(DEMO) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
