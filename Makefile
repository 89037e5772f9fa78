# make install   this project and its locked dependencies in .venv
# make demo      installs what is needed and runs the full pipeline on rendered landmarks: runs/demo/report.html
# make test      installs what is needed and runs every test, including those in a real TensorFlow 2.2.0
# make test-fast no TensorFlow 2.2.0, parity, full-size networks, packaging or framework commands: about a minute on two cores
# make coverage  what `make test` runs, and prints the percentage of lines that ran in the tests' own process
# make lint      ruff: rules and format
# make types     pyright
# make tf22      a real TensorFlow 2.2.0 in its own environment (needs Python 3.8)
# make oracles   PaddleClas and ResNeSt, which the tests compare our networks with
# make bench     times the exports against converters, hand-written networks and runtimes (makes their environments)
# make docs      builds the documentation into build/site

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || echo python3)
VENV := .venv
PY := $(VENV)/bin/python
# CPU builds of torch and torchvision come from PyTorch's own index if it is reachable, otherwise pip's default index serves
# the CUDA builds. Both packages come from the same place: torchvision imports only with the torch that it was built for.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH := $(shell grep -E '^(torch|torchvision)==' constraints.txt)

.PHONY: install demo test test-fast coverage lint types tf22 oracles bench docs

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --retries 0 --no-deps --index-url $(TORCH_INDEX) $(TORCH) \
		|| $(PY) -m pip install --no-deps $(TORCH)
	$(PY) -m pip install --quiet -c constraints.txt -e '.[all,cpu,dev,docs]'
	$(PY) -m pip check
	touch $@

tf22: install
	$(PY) -m export.tf22.environment

# Only their own files: their dependencies are from 2020 and 2024 and conflict with the current TensorFlow.
oracles: .oracles/installed

.oracles/installed: Makefile | install
	$(PY) -m pip install --quiet --no-deps --upgrade --target .oracles paddleclas==2.6.0 resnest==0.0.5
	touch $@

# Without Python 3.8 the demo still runs and lists the checks that it skipped.
demo: install
	-$(PY) -m export.tf22.environment
	$(PY) -m pipeline --out runs/demo

test: install tf22 oracles
	$(PY) -m pytest

test-fast: install
	$(PY) -m pytest -m "not tf22 and not slow and not parity and not heavy and not several" tests

coverage: install tf22 oracles
	$(PY) -m pytest --cov --cov-report=term

bench: tf22
	$(PY) -m benchmarks.rivals
	$(PY) -m benchmarks.serving

# Material for MkDocs prints a notice about MkDocs 2 with every build.
docs: install
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

lint: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: install
	$(PY) -m pyright --pythonpath $(PY)
