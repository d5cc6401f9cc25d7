# Each target works from a bare clone: it needs make, python3 (3.11 or newer) and a package index, nothing else.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo/$(shell date +%Y%m%d-%H%M%S)

.PHONY: test demo clean

test: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

demo: .venv/installed-all
	$(BIN)/handeye train reach-quick --out $(DEMO)/run
	$(BIN)/handeye evaluate reach-paper --json $(DEMO)/reach-paper.json
	$(BIN)/handeye evaluate reach-best --json $(DEMO)/reach-best.json
	$(BIN)/handeye evaluate grasp --episodes 100 --json $(DEMO)/grasp.json --video $(DEMO)/grasp.webp
	$(BIN)/handeye report $(DEMO)/run reach-paper reach-best --trials 100 --out $(DEMO)/report

# The build backend comes from the constraints too, hence no build isolation.
.venv/installed-all: .venv/bin/python constraints.txt pyproject.toml
	$(BIN)/pip install --quiet -c constraints.txt hatchling editables
	$(BIN)/pip install --quiet --no-build-isolation -c constraints.txt -e ".[all]"
	touch $@

.venv/installed-dev: .venv/installed-all
	$(BIN)/pip install --quiet --no-build-isolation -c constraints.txt -e ".[all,dev]"
	touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "handeye needs Python 3.11 or newer, found " + sys.version)'
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv demo .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
