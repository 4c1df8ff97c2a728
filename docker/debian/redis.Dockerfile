# Redis from Debian's packages, for tests of docker/compose.yaml where no registry of images can be reached. In production
# take the official image, which compose names.
ARG PYTHON_IMAGE=python:3.13-slim-trixie
# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE}
# hadolint ignore=DL3008
RUN groupadd --gid 999 redis && useradd --uid 999 --gid 999 --home-dir /data redis \
    && apt-get update && apt-get install --yes --no-install-recommends redis-server redis-tools \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 999 -g 999 /data
WORKDIR /data
USER 999:999
EXPOSE 6379
CMD ["redis-server"]
