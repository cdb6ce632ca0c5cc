# make demo [ARGS=--once]   see it work        make test   run all tests
# uv is used where it is installed; Python 3.11 or newer with venv is enough.

PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LINT_READY := $(VENV)/.ready-to-lint
# make test PYTEST_ARGS="-k journal" narrows it.
PYTEST_ARGS ?=
# What tests start computes beside them: with one more than there are cores, all of these are busy all the time.
TEST_JOBS ?= $(shell expr 1 + $$(getconf _NPROCESSORS_ONLN))
# Many processes are started, and each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint bench pictures clean

demo: $(READY)
	@$(BIN)/celery -A example_project plet up --call example_project.census $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(LINT_READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(LINT_READY)
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file $(ARGS) || exit 1; done

pictures: $(READY)
	$(BIN)/python docs/pictures/render.py
	$(BIN)/python docs/pictures/pages.py

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf $(VENV) example_project/.plet

ifeq ($(UV),)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	    "this needs Python 3.11 or newer, and $(PYTHON) is older; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo,test]'
	@touch $@

# Dependency groups need pip 25.1; the one that comes with Python 3.11 is older.
$(LINT_READY): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

else

$(READY): pyproject.toml
	$(UV) sync --quiet
	@touch $@

$(LINT_READY): $(READY)
	@touch $@

endif
