# The main commands are `make run` and `make test`. `make help` lists all.

# TFX 1.21 runs on Python 3.13 and 3.12, and its wheels need glibc 2.39. TFX 1.16 runs on Python 3.11.
GLIBC   := $(shell getconf GNU_LIBC_VERSION 2>/dev/null | cut -d ' ' -f 2)
TAKES   := $(strip $(if $(shell printf '2.39\n%s\n' "$(GLIBC)" | sort --version-sort --check=quiet && echo yes),3.13 3.12) 3.11)
PYTHON  ?= $(shell for version in $(TAKES); do command -v python$$version && break; done)
VERSION := $(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
TFX     := $(if $(filter $(VERSION),$(TAKES)),$(if $(filter 3.11,$(VERSION)),1.16,1.21))
FOUND   := $(if $(PYTHON),$(PYTHON) is $(if $(VERSION),Python $(VERSION),not a Python),no Python was found)
LOCK    := $(if $(TFX),requirements-tfx-$(TFX).lock)
VENV    ?= .venv
READY   := $(VENV)/.ready
PY      := $(VENV)/bin/python
ARGS    ?=
# The model that `serve` and `demo` take: a profile's serving.model_name.
MODEL   ?= mnist
# A public key in PEM: `serve` then takes only versions that its private key has signed.
VERIFY_KEY ?=
# Two processes share the test files; tests/conftest.py says which files stay together.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

export TF_USE_LEGACY_KERAS := 1

.DEFAULT_GOAL := help
.PHONY: help setup run serve demo flink prism test coverage test-fast lint types bench month bench-serving protos lock clean

help:  ## show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  Options of a command go into ARGS: make run ARGS='--profile article-lstm'"

setup: $(READY)  ## create .venv and install the locked dependencies

$(READY): $(LOCK)
	@if [ "$$(uname -sm)" != "Linux x86_64" ]; then \
	  echo "make: TFX has wheels for Linux on x86_64 only, and this machine is $$(uname -sm)" >&2; exit 1; fi
	@if [ -z "$(TFX)" ]; then \
	  echo "make: $(FOUND): TFX takes Python $(TAKES) with glibc $(GLIBC)." \
	    "Install one (Debian and Ubuntu: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python" >&2; \
	  exit 1; fi
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: $(PYTHON) has no venv module; install it (Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo "Setting up $(VENV) with TFX $(TFX), because of Python $(VERSION) and glibc $(GLIBC): 3 to 4 GB, a few minutes."
	@rm -rf "$(VENV)" && "$(PYTHON)" -m venv "$(VENV)"
	@$(PY) -m pip install --quiet --quiet --disable-pip-version-check --no-deps --require-hashes \
	  --ignore-requires-python --requirement $(LOCK) || { \
	  echo "make: the dependencies could not be installed; see pip's message above" >&2; exit 1; }
	@touch $@

run: $(READY)  ## run the whole pipeline on all 70,000 digits; push the model if it passes
	@$(PY) -m pipeline.run_local $(ARGS)

serve: $(READY)  ## serve the last pushed model on localhost:8500, with the stand-in for TensorFlow Serving
	@ls -d runs/serving_models/$(MODEL)/[0-9]* >/dev/null 2>&1 || { \
	  echo "make: runs/serving_models/$(MODEL) holds no model yet; push one with make run" >&2; exit 1; }
	@$(PY) -m serving.model_server --model_name=$(MODEL) --model_base_path=runs/serving_models/$(MODEL) \
	  $(if $(VERIFY_KEY),--verify_key=$(VERIFY_KEY)) $(ARGS)

demo: $(READY)  ## draw a digit on localhost:8600 and watch the last pushed model read it row by row
	@$(PY) -m serving.demo --model $(MODEL) $(ARGS)

flink: $(READY)  ## start Flink, Beam's job server and workers here; needs Java and Maven
	@VENV=$(VENV) pipeline/engines/flink.sh start

prism: $(READY)  ## build Prism, Beam's runner in Go, for the tests of the engines; needs Go
	@cd tests/pipeline/prism && go build -o "$(abspath $(VENV))/bin/prism" github.com/apache/beam/sdks/v2/go/cmd/prism

test: $(READY)  ## run every test
	@$(PY) -m pytest $(PARALLEL) $(ARGS)

coverage: $(READY)  ## run every test and measure what they cover, which takes half as long again
	@$(PY) -m pytest $(PARALLEL) --cov --cov-report=term:skip-covered $(ARGS)

test-fast: $(READY)  ## run only the fast tests
	@$(PY) -m pytest $(PARALLEL) -m "not slow" $(ARGS)

lint: $(READY)  ## check style and formatting
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

types: $(READY)  ## check types
	@$(PY) -m mypy

bench: $(READY)  ## measure speed and memory, each with a reference in the same run
	@$(PY) -m tests.benchmarks $(ARGS)

month: $(READY)  ## serve, watch and follow 30 days of drifting digits on this machine; about 20 minutes
	@$(PY) -m tests.benchmarks.loop $(ARGS)

bench-serving: $(READY)  ## measure the client and the stand-in server; needs a pushed model
	@$(PY) -m tests.benchmarks.serving $(ARGS)

protos: $(READY)  ## generate serving/protos/messages.binpb from the .proto files; needs Python 3.11
	@$(PY) -m grpc_tools.protoc -I serving/protos --include_imports \
	  --descriptor_set_out=serving/protos/messages.binpb serving/protos/tensorflow.proto serving/protos/tensorflow_serving.proto

# Packages that no command imports: a debugger, TensorBoard's faster reader, Beam's connectors to Google's services.
IMAGE_LEAVES_OUT := debugpy tensorboard-data-server $(addprefix google-cloud-,bigtable datastore dlp language \
  monitoring pubsublite recommendations-ai spanner videointelligence vision)
COMPILE := uv pip compile pyproject.toml --extra pipeline --extra tune --extra kubeflow --extra s3 \
  --generate-hashes --no-annotate --no-emit-index-url --custom-compile-command "make lock"
IMAGE := $(COMPILE) --python-version 3.13 --python-platform x86_64-manylinux_2_39 \
  --constraint requirements-tfx-1.21.lock --excludes /dev/stdin

lock:  ## write the locks again: of each TFX, and of the images; needs uv
	$(COMPILE) --extra dev --python-version 3.11 --python-platform x86_64-manylinux_2_28 --output-file requirements-tfx-1.16.lock
	$(COMPILE) --extra dev --python-version 3.12 --universal --output-file requirements-tfx-1.21.lock
	printf '%s\n' tensorflow $(IMAGE_LEAVES_OUT) | $(IMAGE) --extra cpu --output-file requirements-cpu.lock
	printf '%s\n' $(IMAGE_LEAVES_OUT) | $(IMAGE) --extra gpu --output-file requirements-gpu.lock

clean:  ## remove .venv and caches; runs and models stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .coverage
