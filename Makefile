# Everything happens in .venv; a fresh machine needs Python 3.11 with pip and venv, and make.
PYTHON ?= python3
BIN := .venv/bin
.DELETE_ON_ERROR:
.PHONY: demo examples landscapes test soak lint bench bench-quick bench-integrators clean

demo: .venv/.demo
	$(BIN)/python examples/demo.py

examples: .venv/.demo
	$(BIN)/python examples/knob.py
	$(BIN)/python examples/relaxation.py
	$(BIN)/python examples/phi4.py
	$(BIN)/python examples/kramers.py

landscapes: .venv/.demo
	$(BIN)/python examples/gallery.py

test: .venv/.test
	$(BIN)/python -m pytest -m "not slow and not alone" -n 2 --dist loadfile
	$(BIN)/python -m pytest -m "not slow and alone"

soak: .venv/.test
	$(BIN)/python -m pytest -m "not alone" -n 2 --dist loadfile
	$(BIN)/python -m pytest -m alone

lint: .venv/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

bench: .venv/.peers
	$(BIN)/python benchmarks/performance.py
	$(BIN)/python benchmarks/page.py

bench-quick: .venv/.peers
	$(BIN)/python benchmarks/performance.py --quick

bench-integrators: .venv/.peers
	$(BIN)/python benchmarks/integrators.py

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.demo: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install -q -e ".[demo]"
	touch $@

.venv/.test: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install -q -e ".[test]"
	touch $@

.venv/.peers: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install -q -e ".[test,peers]"
	touch $@

.venv/.lint: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install -q -e ".[test,lint]"
	touch $@

clean:
	rm -rf .venv out build dist *.egg-info .ruff_cache
