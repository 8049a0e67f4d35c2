# Two commands on a fresh machine: `make demo` and `make test`. Each makes the virtual environment it needs.
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench costs zoo clean

$(READY): pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all]'
	touch $(READY)

demo: $(READY)
	$(BIN)/advisor recommend --task ocr
	$(BIN)/advisor run --task ocr --plan plans/demo.toml --out runs/demo
	$(BIN)/advisor bundle verify runs/demo/bundle

# A file of tests belongs to one process, so what it sets up is set up once; one thread each, so that short trainings are the same everywhere.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m bench

costs: $(READY)
	$(BIN)/python bench/make_costs.py

zoo: $(READY)
	$(BIN)/python -m bench zoo

clean:
	rm -rf $(VENV) runs build dist *.egg-info
