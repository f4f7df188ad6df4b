# Each target does its own set-up: a virtual environment in .venv, installed once and again when its inputs change.
# `make demo ARGS="--model me/my-ts2net --videos a.mp4"` hands arguments on.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo setup test clean

demo: .venv/installed
	$(BIN)/ts2net demo $(ARGS)

setup: .venv/installed .venv/side/installed .venv/object-storage/installed .venv/deepspeed/installed

# The cheapest checks first. The formatter is told where to look, or it would rewrite the template model_card.md.
test: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist worksteal $(ARGS)

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@

# Without its dependencies and out of the way: the package doesn't need it, and it would bring a torch of its own.
.venv/side/installed: .venv/installed
	$(BIN)/pip install -q --no-deps --upgrade --target .venv/side torchvision==0.28.0
	touch $@

# An S3 server for tests, whose many dependencies are none of the package's.
.venv/object-storage/installed: .venv/installed
	$(BIN)/pip install -q --upgrade --target .venv/object-storage 'moto[s3]==5.2.5' flask==3.1.3 flask-cors==6.0.5
	touch $@

# Its wheel is built here, which asks for the torch that is here. Where it is found, other libraries behave otherwise.
.venv/deepspeed/installed: .venv/installed
	$(BIN)/pip install -q --no-build-isolation --no-deps --upgrade --target .venv/deepspeed \
		deepspeed==0.19.8 einops==0.8.2 hjson==3.1.0 py-cpuinfo==9.0.0
	touch $@

clean:
	rm -rf .venv demo build dist .mypy_cache .pytest_cache .ruff_cache
