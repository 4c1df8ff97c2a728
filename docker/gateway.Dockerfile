# The HTTP gateway: contracts, store, queue client, and clients of registries and object stores, in which it looks models
# up. No torch, so it starts at once.
#   docker build -f docker/gateway.Dockerfile -t auditcore-gateway .

FROM python:3.13-slim-trixie AS build
WORKDIR /source
COPY constraints.txt ./
RUN pip install --no-cache-dir --constraint constraints.txt uv
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY service service
RUN uv build --wheel --out-dir /wheels
# the wheel by its path: by its name a registry could answer with another package
RUN uv venv /app \
    && uv pip install --no-cache --compile-bytecode --python /app/bin/python --constraint constraints.txt \
        "$(echo /wheels/auditcore-*.whl)[gateway,registries]"

FROM python:3.13-slim-trixie
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin auditcore \
    && install -d -o auditcore -g auditcore /var/lib/auditcore /var/lib/auditcore/blobs
COPY --from=build /app /app
USER 10001:10001
WORKDIR /var/lib/auditcore
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HOME=/tmp/huggingface \
    AUDIT_HOST=0.0.0.0 AUDIT_PORT=8000 AUDIT_AUTHENTICATION=required
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["auditcore", "gateway"]
