# Two commands do all: `make demo` runs a real sweep, `make test` passes the tests.
PYTHON ?= python3
MINUTES ?= 10
SEED ?= $(shell date +%s)
BIN := .venv/bin

.PHONY: help demo test fast soak check format docs bench binary clean
help:
	@echo 'make demo     a real sweep on this machine, start to end'
	@echo 'make test     all tests; those that need what is not installed skip and say so'
	@echo 'make fast     all tests but the slow ones, about four minutes on two cores'
	@echo 'make soak     20 users, thousands of jobs, a daemon that dies (MINUTES=10, SEED=…); as root'
	@echo 'make check    ruff and mypy'
	@echo 'make format   let ruff put the code in shape'
	@echo 'make docs     make anew what in docs/ is made from the code, and the man pages'
	@echo 'make bench    every figure that the README claims'
	@echo 'make binary   dist/rised: daemon and client in one file, for machines with the same Python'
	@echo 'make clean    remove what the others made'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'riseml needs Python 3.11 or newer; say which: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo 'on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }

.venv/dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev,examples]'
	@touch $@

.venv/demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[examples]'
	@touch $@

demo: .venv/demo
	@scripts/demo

test: .venv/dev
	$(BIN)/python -m pytest

fast: .venv/dev
	$(BIN)/python -m pytest -m 'not slow'

soak: .venv/dev
	SOAK_MINUTES=$(MINUTES) SOAK_SEED=$(SEED) $(BIN)/python -m pytest -s tests/integration/test_soak.py

check: .venv/dev
	scripts/check

format: .venv/dev
	$(BIN)/ruff check -q --fix .
	$(BIN)/ruff format -q .

docs: .venv/dev
	$(BIN)/python -m scripts.reference

bench: .venv/dev
	$(BIN)/python -m benchmarks $(BENCH)

binary: | $(BIN)/python
	$(BIN)/python scripts/binary/build.py

clean:
	rm -rf .venv dist .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
