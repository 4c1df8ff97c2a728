# TorchServe with the handler of auditcore: class scores and explanations of archives that `auditcore mar` wrote.
# TorchServe is archived upstream; see docker/torchserve/README.md.
#   docker build -f docker/torchserve.Dockerfile -t auditcore-torchserve .

FROM python:3.11-slim-trixie AS build
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
        "$(echo /wheels/auditcore-*.whl)[engine]" torchserve pyyaml

FROM python:3.11-slim-trixie
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openjdk-21-jre-headless \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin auditcore \
    && install -d -o auditcore -g auditcore /models
COPY --from=build /app /app
COPY docker/torchserve/config.properties /etc/torchserve/config.properties
USER 10001:10001
WORKDIR /home/auditcore
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/ping', timeout=8)"]
CMD ["python", "-m", "ts.model_server", "--start", "--foreground", "--ncs", "--ts-config", "/etc/torchserve/config.properties"]
