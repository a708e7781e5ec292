# Every target first sets up what it needs in .venv, and again whenever the dependencies change.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
TOOLS := .venv/.installed-tools

.PHONY: test demo docs lint setup clean

test: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist loadscope --no-loadscope-reorder

demo: $(STAMP)
	$(BIN)/keras-dynnets demo

docs: $(TOOLS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(TOOLS)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

setup: $(STAMP) $(TOOLS)

# A stamp comes last and only after a success, so that a stopped or failed installation is done again.
$(STAMP): setup.cfg setup.py pyproject.toml
	rm -f $@
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[export,test]'
	touch $@

# What only a developer needs: the linters, pre-commit and the builder of the documents.
$(TOOLS): $(STAMP)
	rm -f $@
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[docs,dev]'
	touch $@

clean:
	rm -rf .venv build dist demo site *.egg-info .pytest_cache .hypothesis .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
