# Two commands are enough: `make demo` and `make test`. Both make .venv if need be.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.winnow-installed

.PHONY: install demo test fast lint format clean

install: $(STAMP)

$(STAMP): pyproject.toml .ci/install
	PYTHON="$(PYTHON)" VENV="$(VENV)" sh .ci/install
	touch $@

demo: $(STAMP)
	$(BIN)/winnow demo --workspace demo

test: $(STAMP)
	$(BIN)/python -m pytest

# One process a core, each with one thread; the tests of a file share what they set up.
fast: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "not vllm and not slow and not server and not postgres and not browser and not gpu"

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache *.egg-info
