# Gristmill. Needs Python 3.10 to 3.13 and make; installs into $(VENV) only.
#   make run    install, then take the demo corpus through every stage into $(OUT)
#   make test   install what tests need too, and run them all
#   make lint   ruff, mypy --strict and the import layers
#   make bench  MB/s per core and stage over real corpora
PYTHON ?= python3
VENV ?= .venv
OUT ?= out/demo

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
INSTALL = $(PIP) install --quiet --prefer-binary --constraint constraints.txt
PYTHONS ?= 3.10 3.11 3.12 3.13

.PHONY: run test test-pythons lint bench constraints clean
.DELETE_ON_ERROR:

run: $(VENV)/.installed
	$(BIN)/gristmill demo --no-json --output $(OUT)

test: $(VENV)/.dev-installed
	$(BIN)/python -m pytest

# The built wheel, installed with its constraints into an empty environment of every Python found.
test-pythons: $(VENV)/.dev-installed
	$(BIN)/python tests/tools/check_pythons.py $(PYTHONS)

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The whole run, stage by stage, over the benchmark corpora in ../shared/data/bench.
bench: out/bench/tokenizer.json
	$(BIN)/python tests/benchmarks/bench_run.py english --tokenizer out/bench/tokenizer.json
	$(BIN)/python tests/benchmarks/bench_run.py multilingual

out/bench/tokenizer.json: | $(VENV)/.dev-installed
	$(BIN)/python tests/benchmarks/make_tokenizer.py $@

# Pins every distribution for every supported Python; see docs/decisions/001-constraints.md.
constraints: $(VENV)/.dev-installed
	$(PIP) install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --no-annotate --upgrade --all-extras \
	  --python-version 3.10 --custom-compile-command 'make constraints' \
	  --output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) build dist out .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	  sys.exit(None if (3, 10) <= v <= (3, 13) else \
	  "Gristmill needs Python 3.10 to 3.13, $(PYTHON) is %d.%d; try: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)

# A second call installs nothing, unless the requirements changed.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.dev-installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.installed
