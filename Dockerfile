# The pipeline's image: its commands, Kubeflow's steps, Beam's workers and the stand-in server.
#
#   docker build --tag digit-rows:0.1.0 .
#   docker build --tag digit-rows:0.1.0-gpu --build-arg VARIANT=gpu .
#   docker build --tag digit-rows:0.1.0-beam-worker --target beam-worker .
#
# A tag can move. To pin the bytes, name a digest too: --build-arg PYTHON=3.11-slim-bookworm@sha256:…
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
# cpu or gpu: which lock.
ARG VARIANT=cpu
ARG SITE=/opt/venv/lib/python3.11/site-packages
# For crcmod, which without a C compiler computes Beam's checksums in Python. The compiler stays behind, so its version
# may be any that Debian has.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /build
COPY requirements-${VARIANT}.lock requirements.lock
# First what builds the sdists among it, so that pip fetches nothing beside the lock. Left out: C++ headers and tests.
RUN --mount=type=cache,target=/root/.cache/pip \
    sed -nE '/^(setuptools|wheel)==/,/[^\\]$/p' requirements.lock > build.lock \
    && pip install --no-deps --require-hashes --requirement build.lock \
    && pip install --no-deps --require-hashes --ignore-requires-python --no-build-isolation \
        --requirement requirements.lock \
    && rm -r $SITE/tensorflow/include \
    && find $SITE/numpy $SITE/pandas $SITE/pyarrow $SITE/scipy $SITE/sklearn \
        -type d -name tests -prune -exec rm -r {} +
COPY . .
RUN pip install --no-cache-dir --no-deps --no-index --no-build-isolation .

FROM python:${PYTHON} AS image
RUN useradd --uid 1000 --create-home digits \
    && mkdir /runs \
    && chown 1000:1000 /runs
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY data/mnist data/mnist
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/home/digits \
    PYTHONUNBUFFERED=1 \
    TF_USE_LEGACY_KERAS=1
USER 1000:1000

# For Dataflow, and Flink or Spark with Beam's DOCKER environment: --sdk_container_image=digit-rows:0.1.0-beam-worker.
FROM image AS beam-worker
# Dataflow mounts folders that only root may write: for it, --build-arg WORKER=0:0.
ARG WORKER=1000:1000
USER ${WORKER}
COPY --from=apache/beam_python3.11_sdk:2.60.0 /opt/apache/beam /opt/apache/beam
# Or boot makes a venv of its own, which does not see /opt/venv.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
ENTRYPOINT ["/opt/apache/beam/boot"]

# Last, so that it is what `docker build` makes unless told otherwise.
FROM image AS run
CMD ["python", "-m", "pipeline.run_local", "--run-root", "/runs"]
