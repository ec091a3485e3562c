# The main commands are `make run` and `make test`. `make help` lists all.

PYTHON ?= $(shell command -v python3.11 || command -v python3.10)
VENV   ?= .venv
READY  := $(VENV)/.ready
PY     := $(VENV)/bin/python
ARGS   ?=
# Two processes share the test files, so that a long file does not wait for all others.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

export TF_USE_LEGACY_KERAS := 1

.DEFAULT_GOAL := help
.PHONY: help setup run serve demo test test-fast lint types bench bench-serving protos lock clean

help:  ## show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  Options of a command go into ARGS: make run ARGS='--profile article-lstm'"

setup: $(READY)  ## create .venv and install the locked dependencies

$(READY): requirements.lock
	@if [ -z "$(PYTHON)" ]; then \
	  echo "make: no Python 3.11 or 3.10 was found; install one (Debian 12: apt-get install python3 python3-venv)" >&2; exit 1; fi
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))' || { \
	  echo "make: $(PYTHON) is neither Python 3.11 nor 3.10; name one with make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: $(PYTHON) has no venv module; install it (Debian 12: apt-get install python3-venv)" >&2; exit 1; }
	@echo "Setting up $(VENV): about 3 GB of packages, a few minutes."
	@rm -rf "$(VENV)" && "$(PYTHON)" -m venv "$(VENV)"
	@$(PY) -m pip install --quiet --quiet --disable-pip-version-check --no-deps --require-hashes \
	  --ignore-requires-python --requirement requirements.lock || { \
	  echo "make: the dependencies could not be installed; see pip's message above" >&2; exit 1; }
	@touch $@

run: $(READY)  ## run the whole pipeline on all 70,000 digits; push the model if it passes
	@$(PY) -m pipeline.run_local $(ARGS)

serve: $(READY)  ## serve the last pushed model on localhost:8500, with the stand-in for TensorFlow Serving
	@ls -d runs/serving_models/mnist/[0-9]* >/dev/null 2>&1 || { \
	  echo "make: runs/serving_models/mnist holds no model yet; push one with make run" >&2; exit 1; }
	@$(PY) -m serving.model_server --model_name=mnist --model_base_path=runs/serving_models/mnist $(ARGS)

demo: $(READY)  ## draw a digit on localhost:8600 and watch the last pushed model read it row by row
	@$(PY) -m serving.demo $(ARGS)

test: $(READY)  ## run every test, with coverage
	@$(PY) -m pytest $(PARALLEL) --cov --cov-report=term:skip-covered $(ARGS)

test-fast: $(READY)  ## run only the fast tests
	@$(PY) -m pytest $(PARALLEL) -m "not slow" $(ARGS)

lint: $(READY)  ## check style and formatting
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

types: $(READY)  ## check types
	@$(PY) -m mypy

bench: $(READY)  ## measure speed and memory, each with a reference in the same run
	@$(PY) -m tests.benchmarks $(ARGS)

bench-serving: $(READY)  ## measure the client and the stand-in server; needs a pushed model
	@$(PY) -m tests.benchmarks.serving $(ARGS)

protos: $(READY)  ## generate serving/protos/messages.binpb from the .proto files; needs Python 3.11
	@$(PY) -m grpc_tools.protoc -I serving/protos --include_imports \
	  --descriptor_set_out=serving/protos/messages.binpb serving/protos/tensorflow.proto serving/protos/tensorflow_serving.proto

# Packages that no command imports: a debugger, TensorBoard's faster reader, Beam's connectors to Google's services.
IMAGE_LEAVES_OUT := debugpy tensorboard-data-server $(addprefix google-cloud-,bigtable datastore dlp language \
  monitoring pubsublite recommendations-ai spanner videointelligence vision)
COMPILE := uv pip compile pyproject.toml --extra pipeline --extra kubeflow --extra s3 \
  --generate-hashes --no-annotate --no-emit-index-url --custom-compile-command "make lock"
IMAGE := $(COMPILE) --python-version 3.11 --python-platform x86_64-manylinux_2_28 --constraint requirements.lock \
  --excludes /dev/stdin

lock:  ## write requirements.lock again, and the image's locks from it; needs uv
	$(COMPILE) --extra dev --universal --python-version 3.10 --output-file requirements.lock
	printf '%s\n' tensorflow $(IMAGE_LEAVES_OUT) | $(IMAGE) --extra cpu --output-file requirements-cpu.lock
	printf '%s\n' $(IMAGE_LEAVES_OUT) | $(IMAGE) --extra gpu --output-file requirements-gpu.lock

clean:  ## remove .venv and caches; runs and models stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .coverage
