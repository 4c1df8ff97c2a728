# The HTTP gateway: contracts, store, queue client, and clients of registries and object stores, in which it looks models
# up. No torch, so it starts at once. `make images` builds it with its labels, or:
#   docker build -f docker/gateway.Dockerfile -t auditcore-gateway .

# pin it: --build-arg PYTHON_IMAGE=python:3.13-slim-trixie@sha256:...
ARG PYTHON_IMAGE=python:3.13-slim-trixie

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS build
WORKDIR /source
# files of bytecode do not name the time at which they were made
ENV PYC_INVALIDATION_MODE=UNCHECKED_HASH PATH=/build/bin:$PATH
COPY docker/requirements/build.txt docker/requirements/gateway.txt docker/requirements/
RUN python -m venv /build \
    && pip install --no-cache-dir --require-hashes --no-deps --only-binary :all: --requirement docker/requirements/build.txt
RUN uv venv /app \
    && uv pip install --no-cache --compile-bytecode --python /app/bin/python --require-hashes --no-deps --no-build \
        --requirement docker/requirements/gateway.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY service service
# into a folder of its own, so that the layer of the packages stays when the code changes
RUN uv build --wheel --no-build-isolation --python /build/bin/python --out-dir /wheels \
    && uv pip install --no-cache --compile-bytecode --python /app/bin/python --no-deps --target /own /wheels/*.whl

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin auditcore \
    && install -d -o auditcore -g auditcore /var/lib/auditcore /var/lib/auditcore/blobs
COPY --from=build /app /app
COPY --from=build /own /app/auditcore
USER 10001:10001
WORKDIR /var/lib/auditcore
ENV PATH=/app/auditcore/bin:/app/bin:$PATH PYTHONPATH=/app/auditcore PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/tmp/huggingface AUDIT_HOST=0.0.0.0 AUDIT_PORT=8000 AUDIT_AUTHENTICATION=required
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["auditcore", "gateway"]
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="auditcore-gateway" \
    org.opencontainers.image.description="HTTP gateway of auditcore, which audits explanations of image classifiers" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.source="${SOURCE}" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}"
