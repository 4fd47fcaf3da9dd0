# setwise: `make help` lists what there is. Environments are made on first use and again when pyproject.toml changes.

PYTHON ?= python3
DEMO_SEED ?= 1
PYTEST_ARGS ?=
# Where torch comes from; pip's own sources by default. On a machine without a GPU the small build is at
# TORCH_FLAGS="--index-url https://download.pytorch.org/whl/cpu"
TORCH_FLAGS ?=

VENV := .venv
DEMO_VENV := .venv-demo
INSTALL := -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test browser check format rehearse lock clean
.DEFAULT_GOAL := help

help:  ## This list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: $(DEMO_VENV)/installed  ## Play a hidden building over MQTT and run it better (DEMO_SEED=1, DEMO_EXIT=1 to end by itself)
	@$(DEMO_VENV)/bin/setwise demo --seed $(DEMO_SEED) $(if $(filter 1,$(DEMO_EXIT)),--exit-when-done)

test: $(VENV)/installed  ## The tests, but those marked slow or browser (PYTEST_ARGS="-k store" for some of them)
	@$(VENV)/bin/python -m pytest -m "not slow and not browser" $(PYTEST_ARGS)

browser: $(VENV)/installed  ## The page in a real browser; needs chromium and chromium-driver
	@$(VENV)/bin/python -m pytest -q -m browser tests/service/test_page.py

check: $(VENV)/installed  ## Format, lint, types, import borders
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

format: $(VENV)/installed  ## Bring the code into shape
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

rehearse:  ## The Dockerfile's gateway steps in a bare Debian root, without Docker; serves from it and says how big it is (root)
	@$(PYTHON) scripts/rehearse.py

lock:  ## Pin the gateway's dependencies anew (deploy/gateway.lock): wheels for amd64 and arm64 with their hashes
	@$(PYTHON) scripts/lock.py

clean:  ## Remove the environments and caches
	rm -rf $(VENV) $(DEMO_VENV) .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis

$(VENV)/installed: pyproject.toml
	@echo "setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python $(INSTALL) $(TORCH_FLAGS) torch==2.13.0
	@$(VENV)/bin/python $(INSTALL) -e ".[train,demo,cluster,dev]"
	@touch $@

$(DEMO_VENV)/installed: pyproject.toml
	@echo "setting up $(DEMO_VENV) ..."
	@$(PYTHON) -m venv $(DEMO_VENV)
	@$(DEMO_VENV)/bin/python $(INSTALL) -e ".[demo]"
	@touch $@
