# One worker: the engine on one GPU, or on the CPU where there is none. `make images` builds both, with labels, or:
#   docker build -f docker/worker.Dockerfile -t auditcore-worker .
#   docker build -f docker/worker.Dockerfile --build-arg DEVICE=cpu -t auditcore-worker-cpu .
# The torch wheel brings CUDA; the host brings only its driver, through the NVIDIA container toolkit. With DEVICE=cpu the
# libraries of CUDA are left out.

# pin it: --build-arg PYTHON_IMAGE=python:3.13-slim-trixie@sha256:...
ARG PYTHON_IMAGE=python:3.13-slim-trixie
ARG DEVICE=cuda

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS build
ARG DEVICE
WORKDIR /source
# files of bytecode do not name the time at which they were made
ENV PYC_INVALIDATION_MODE=UNCHECKED_HASH PATH=/build/bin:$PATH
COPY docker/requirements/build.txt docker/requirements/worker.txt docker/requirements/worker-cpu.txt docker/requirements/
RUN python -m venv /build \
    && pip install --no-cache-dir --require-hashes --no-deps --only-binary :all: --requirement docker/requirements/build.txt
COPY docker/without_cuda.py docker/
# an index with builds of torch for the CPU, which then need nothing of CUDA, such as PyTorch's own; they have no hashes
ARG TORCH_INDEX=""
# further packages with models that requests may name, beside those of the demo; they have no hashes either
ARG MODEL_PACKAGES=""
# a compiler for what stands in place of CUDA's libraries
# hadolint ignore=DL3008,DL3015,SC2086
RUN if [ "$DEVICE" = cpu ]; then requirements=worker-cpu.txt; else requirements=worker.txt; fi \
    && uv venv /app \
    && uv pip install --no-cache --compile-bytecode --python /app/bin/python --require-hashes --no-deps --no-build \
        --requirement "docker/requirements/$requirements" \
    && site=$(/app/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
    && if [ "$DEVICE" = cpu ] && [ -n "$TORCH_INDEX" ]; then \
        uv pip uninstall --python /app/bin/python nvidia-cuda-runtime nvidia-cuda-cupti \
        && uv pip install --no-cache --compile-bytecode --python /app/bin/python --no-deps --no-build --reinstall \
            --index-url "$TORCH_INDEX" \
            "$(sed -n 's/^\(torch==[0-9.]*\).*/\1/p' docker/requirements/worker-cpu.txt)" \
            "$(sed -n 's/^\(torchvision==[0-9.]*\).*/\1/p' docker/requirements/worker-cpu.txt)"; \
    elif [ "$DEVICE" = cpu ]; then \
        apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev \
        && python docker/without_cuda.py "$site"; \
    fi \
    && if [ -n "$MODEL_PACKAGES" ]; then \
        uv pip freeze --python /app/bin/python > /tmp/installed.txt \
        && uv pip install --no-cache --compile-bytecode --python /app/bin/python --no-deps --constraint /tmp/installed.txt ${MODEL_PACKAGES}; \
    fi
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY service service
# into a folder of its own, so that the layer of the packages stays when the code changes
RUN uv build --wheel --no-build-isolation --python /build/bin/python --out-dir /wheels \
    && uv pip install --no-cache --compile-bytecode --python /app/bin/python --no-deps --target /own /wheels/*.whl

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE}
ARG DEVICE
# Triton, which compiles kernels for the GPU, has a C compiler build what launches them
# hadolint ignore=DL3008
RUN if [ "$DEVICE" != cpu ]; then \
        apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; \
    fi
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin auditcore \
    && install -d -o auditcore -g auditcore /var/lib/auditcore /var/lib/auditcore/blobs /var/lib/auditcore/kernels
COPY --from=build /app /app
COPY --from=build /own /app/auditcore
USER 10001:10001
WORKDIR /var/lib/auditcore
ENV PATH=/app/auditcore/bin:/app/bin:$PATH PYTHONPATH=/app/auditcore PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/tmp/huggingface \
    TRITON_CACHE_DIR=/var/lib/auditcore/kernels/triton TORCHINDUCTOR_CACHE_DIR=/var/lib/auditcore/kernels/inductor \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
# a worker answers while it computes; importing Celery to ask takes about a second
HEALTHCHECK --interval=30s --timeout=15s --start-period=120s --retries=3 \
    CMD ["auditcore", "worker", "--ping"]
CMD ["auditcore", "worker"]
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="auditcore-worker" \
    org.opencontainers.image.description="Worker of auditcore, which audits explanations of image classifiers" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.source="${SOURCE}" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}"
