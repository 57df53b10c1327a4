# What a user needs: demo, test. What a developer needs besides: check, bench.
VENV := .venv

.PHONY: setup check test demo bench clean

setup:
	@scripts/setup

check: setup
	$(VENV)/bin/ruff check seom tests scripts
	$(VENV)/bin/ruff format --check seom tests scripts
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest tests/style

test:
	@scripts/setup --tests
	$(VENV)/bin/pytest -n 3 --dist worksteal $(TESTS)

demo: setup
	@$(VENV)/bin/python3 -IS scripts/demo.py $(DEMO)

bench:
	@scripts/setup --tests
	@scripts/docker-reference
	$(VENV)/bin/python3 -m tests.performance $(BENCH)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache build *.egg-info
	find seom tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
