# The image of the pipeline. It runs the commands, Kubeflow's steps, Beam's workers and the stand-in server.
#
#   docker build --tag digit-rows:0.1.0 .
#   docker build --tag digit-rows:0.1.0-gpu --build-arg VARIANT=gpu .
#   docker build --tag digit-rows:0.1.0-beam-worker --target beam-worker .
#
# A tag can change. To fix the base image, add its digest: --build-arg PYTHON=3.13-slim-trixie@sha256:…
ARG PYTHON=3.13-slim-trixie
# The infra check serves each model with this server before it is pushed. Use the version of production.
ARG SERVING=2.21.0

FROM tensorflow/serving:${SERVING} AS serving

FROM python:${PYTHON} AS build
# cpu or gpu: the lock file to install.
ARG VARIANT=cpu
ARG SITE=/opt/venv/lib/python3.13/site-packages
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /build
COPY requirements-${VARIANT}.lock requirements.lock
# The build tools come first, because pip needs them for sdists and must not install anything outside the lock.
# The last commands delete C++ headers and tests.
RUN --mount=type=cache,target=/root/.cache/pip \
    sed -nE '/^(setuptools|wheel)==/,/[^\\]$/p' requirements.lock > build.lock \
    && pip install --no-deps --require-hashes --requirement build.lock \
    && pip install --no-deps --require-hashes --no-build-isolation --requirement requirements.lock \
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
COPY --from=serving /usr/bin/tensorflow_model_server /usr/local/bin/
WORKDIR /app
COPY data/mnist data/mnist
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/home/digits \
    PYTHONUNBUFFERED=1 \
    TF_USE_LEGACY_KERAS=1
USER 1000:1000

# For Dataflow, and for Flink or Spark with Beam's DOCKER environment:
# --sdk_container_image=digit-rows:0.1.0-beam-worker.
FROM image AS beam-worker
# Dataflow mounts folders that only root can write. So for Dataflow use --build-arg WORKER=0:0.
ARG WORKER=1000:1000
USER ${WORKER}
COPY --from=apache/beam_python3.13_sdk:2.77.0 /opt/apache/beam /opt/apache/beam
# Without this, boot makes a new venv, which does not contain the packages of /opt/venv.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
ENTRYPOINT ["/opt/apache/beam/boot"]

# The last stage is the one that `docker build` makes by default.
FROM image AS run
CMD ["python", "-m", "pipeline.run_local", "--run-root", "/runs"]
