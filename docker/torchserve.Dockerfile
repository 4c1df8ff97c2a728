# TorchServe with the handler of auditcore: class scores and explanations of archives that `auditcore mar` wrote.
# TorchServe is archived upstream; see docker/torchserve/README.md. `make images` builds it with its labels, or:
#   docker build -f docker/torchserve.Dockerfile -t auditcore-torchserve .

# pin it: --build-arg PYTHON_IMAGE=python:3.11-slim-trixie@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim-trixie

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS build
WORKDIR /source
# files of bytecode do not name the time at which they were made
ENV PYC_INVALIDATION_MODE=UNCHECKED_HASH PATH=/build/bin:$PATH
COPY docker/requirements/build.txt docker/requirements/torchserve.txt docker/requirements/
RUN python -m venv /build \
    && pip install --no-cache-dir --require-hashes --no-deps --only-binary :all: --requirement docker/requirements/build.txt
RUN uv venv /app \
    && uv pip install --no-cache --compile-bytecode --python /app/bin/python --require-hashes --no-deps --no-build \
        --requirement docker/requirements/torchserve.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY service service
# into a folder of its own, so that the layer of the packages stays when the code changes
RUN uv build --wheel --no-build-isolation --python /build/bin/python --out-dir /wheels \
    && uv pip install --no-cache --compile-bytecode --python /app/bin/python --no-deps --target /own /wheels/*.whl

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openjdk-21-jre-headless \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin auditcore \
    && install -d -o auditcore -g auditcore /models
COPY --from=build /app /app
COPY --from=build /own /app/auditcore
COPY docker/torchserve/config.properties docker/torchserve/health.py /etc/torchserve/
USER 10001:10001
WORKDIR /home/auditcore
ENV PATH=/app/auditcore/bin:/app/bin:$PATH PYTHONPATH=/app/auditcore PYTHONUNBUFFERED=1
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "/etc/torchserve/health.py"]
CMD ["python", "-m", "ts.model_server", "--start", "--foreground", "--ncs", "--ts-config", "/etc/torchserve/config.properties"]
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="auditcore-torchserve" \
    org.opencontainers.image.description="TorchServe with the handler of auditcore" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.source="${SOURCE}" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}"
