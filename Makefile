# Each target does its own set-up: a virtual environment in .venv, installed once and again when its inputs change.
# `make demo ARGS="--model me/my-ts2net --videos a.mp4"` hands arguments on; `make test PYTHON=python3.13` takes another
# Python, in an environment of its own.

PYTHON ?= python3
VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
PIP := $(BIN)/pip install -q --no-compile
QUICK := not browser and not kill and not ray and not slow and not spread

# Python compiles what is used when it is first used: all that is installed would take a minute, and compiling in each of
# the many processes of the tests longer.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo setup check test docs clean

demo: $(VENV)/installed
	$(BIN)/ts2net demo $(ARGS)

setup: $(addprefix $(VENV)/,installed side/installed tools/installed newest/installed object-storage/installed)

# Lint, format, types and every quick test: under two minutes.
check: $(VENV)/installed $(VENV)/tools/installed lint
	$(BIN)/pytest -n 2 --dist worksteal -m "$(QUICK)" $(ARGS)

# Tests wait for browsers, clusters and processes: three at a time keep two cores busy. Those of a file run in one process,
# which makes its fixtures once.
test: setup lint docs newest
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

# The formatter is told where to look, or it would rewrite the template model_card.md.
.PHONY: lint
lint: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy

docs: $(VENV)/installed
	$(BIN)/mkdocs build --quiet --strict

$(VENV)/created:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/created
	$(PIP) -c constraints.txt -e '.[dev]'
	touch $@

# Without its dependencies and out of the way: the package doesn't need it, and it would bring a torch of its own.
$(VENV)/side/installed: Makefile | $(VENV)/created
	$(PIP) --no-deps --upgrade --target $(VENV)/side torchvision==0.28.0
	touch $@

# Tools that load a pushed folder. Without their dependencies but the few that the tests need.
$(VENV)/tools/installed: Makefile | $(VENV)/created
	$(PIP) --no-deps --upgrade --target $(VENV)/tools sentence-transformers==6.2.0 \
		scikit-learn joblib threadpoolctl narwhals cloudpickle pytrec-eval-terrier polars polars-runtime-32 \
		'mteb==2.26.24; python_version >= "3.11"'
	touch $@

# The newest transformers that the range admits. Left out where it is the pinned one, which `test` runs anyway.
$(VENV)/newest/installed: Makefile | $(VENV)/created
	$(PIP) --no-deps --upgrade --target $(VENV)/newest 'transformers>=5.20.2,<6'
	touch $@

TRANSFORMERS := -c 'import transformers; print(transformers.__version__)'
CONVENTIONS := $(addprefix tests/test_,any_clip.py configuration.py library_conventions.py processing.py)
.PHONY: newest
newest: $(VENV)/installed $(VENV)/newest/installed
	if [ "$$(PYTHONPATH=$(VENV)/newest $(BIN)/python $(TRANSFORMERS))" != "$$($(BIN)/python $(TRANSFORMERS))" ]; then \
		PYTHONPATH=$(VENV)/newest $(BIN)/pytest -m "$(QUICK)" $(CONVENTIONS); \
	fi

# An S3 server for tests, whose many dependencies are none of the package's.
$(VENV)/object-storage/installed: Makefile | $(VENV)/created
	$(PIP) --upgrade --target $(VENV)/object-storage 'moto[s3]==5.2.5' flask==3.1.3 flask-cors==6.0.5
	touch $@

clean:
	rm -rf .venv .venv-* demo build dist .mypy_cache .pytest_cache .ruff_cache
