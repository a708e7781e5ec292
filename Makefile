# `make demo` and `make test` set everything up in .venv first, and again whenever the dependencies change.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: test demo clean

test: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist loadscope

demo: $(STAMP)
	$(BIN)/keras-dynnets demo

# The stamp comes last and only after a success, so that a stopped or failed installation is done again.
$(STAMP): setup.cfg pyproject.toml
	rm -f $@
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[export,test]'
	touch $@

clean:
	rm -rf .venv build dist demo *.egg-info .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
