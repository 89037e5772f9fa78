# make demo    installs what is needed and runs the whole line on rendered landmarks: runs/demo/report.html
# make test    installs what is needed and runs every test, those in a real TensorFlow 2.2.0 included
# make tf22    a real TensorFlow 2.2.0 in an environment of its own (needs some Python 3.8)
# make oracles PaddleClas and ResNeSt, which the tests hold our networks against
# make bench   times what is exported against converters, hand-written networks and runtimes (makes their environments)
# make docs    builds the documentation into build/site
# make install this project and its locked dependencies in .venv

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || echo python3)
VENV := .venv
PY := $(VENV)/bin/python
# torch for CPUs comes from PyTorch's own index, where it is reached; elsewhere pip's own sources serve the usual build.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH := $(shell grep '^torch==' constraints.txt)

.PHONY: demo test tf22 oracles bench docs install lint

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --retries 0 --no-deps --index-url $(TORCH_INDEX) $(TORCH) \
		|| $(PY) -m pip install --no-deps $(TORCH)
	$(PY) -m pip install --quiet -c constraints.txt -e '.[dev]'
	$(PY) -m pip check
	touch $@

tf22: install
	$(PY) -m export.tf22.environment

# Their files alone: what they ask for besides is of 2020 and 2024 and does not live beside today's TensorFlow.
oracles: .oracles/installed

.oracles/installed: Makefile | install
	$(PY) -m pip install --quiet --no-deps --upgrade --target .oracles paddleclas==2.6.0 resnest==0.0.5
	touch $@

# Without Python 3.8 the demo still runs: it says loudly what was not checked.
demo: install
	-$(PY) -m export.tf22.environment
	$(PY) -m pipeline --out runs/demo

test: install tf22 oracles
	$(PY) -m pytest

bench: tf22
	$(PY) -m benchmarks.rivals
	$(PY) -m benchmarks.serving

# Material for MkDocs prints a notice about MkDocs 2 with every build.
docs: install
	$(PY) -m pip install --quiet -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

lint: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
