# What a user needs: demo, test. What a developer needs besides: check.
PYTHON ?= /usr/bin/python3
VENV := .venv

.PHONY: setup check test demo bench clean

setup: $(VENV)/.stamp

$(VENV)/.stamp: requirements.txt requirements-dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet -r requirements-dev.txt
	$(VENV)/bin/pip install --quiet --no-deps --editable .
	touch $@

check: setup
	$(VENV)/bin/ruff check seom tests
	$(VENV)/bin/ruff format --check seom tests
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest tests/style

test: setup
	$(VENV)/bin/pytest -n 2
