# make demo: the whole line on this machine.   make test: every check.   make stress: faults by the thousand.
# Both make .venv on their first run and install nothing on a later one.
# PYTHON=... picks an interpreter (3.11 or newer), PIP_FLAGS=... is handed to pip install.

PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_FLAGS)
PROJECT := pyproject.toml constraints.txt

.PHONY: demo test stress lint clean

demo: $(VENV)/.for-demo
	$(BIN)/braindino demo

test: $(VENV)/.for-test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

stress: $(VENV)/.for-test
	BRAINDINO_STRESS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest $$(grep -l 'Count(' tests/*/test_*.py tests/test_*.py)

lint: $(VENV)/.for-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }

$(VENV)/.for-demo: $(VENV)/.made $(PROJECT)
	@echo "installing into $(VENV) (some minutes, about 1 GB) ..."
	$(INSTALL) -e '.[synthesis]'
	@touch $@

$(VENV)/.for-test: $(VENV)/.made $(PROJECT)
	@echo "installing into $(VENV) (some minutes, about 1.2 GB) ..."
	$(INSTALL) -e '.[synthesis,tables,dicom,registration,test]'
	@touch $@ $(VENV)/.for-demo

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is missing. Debian/Ubuntu: sudo apt-get install python3 python3-venv; macOS: brew install python"; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv module is missing. Debian/Ubuntu: sudo apt-get install python3-venv"; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) demo
