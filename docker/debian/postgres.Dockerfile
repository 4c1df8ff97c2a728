# PostgreSQL from Debian's packages, for tests of docker/compose.yaml where no registry of images can be reached. In
# production take the official image, which compose names.
ARG PYTHON_IMAGE=python:3.13-slim-trixie
# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE}
# hadolint ignore=DL3008
RUN groupadd --gid 999 postgres && useradd --uid 999 --gid 999 --home-dir /var/lib/postgresql postgres \
    && apt-get update && apt-get install --yes --no-install-recommends postgresql-17 \
    && rm -rf /var/lib/apt/lists/* /var/lib/postgresql/* \
    && install -d -o 999 -g 999 /var/lib/postgresql /docker-entrypoint-initdb.d \
    && install -d -o 999 -g 999 -m 3777 /run/postgresql
COPY docker/debian/postgres-entrypoint /usr/local/bin/
ENV PATH=/usr/lib/postgresql/17/bin:$PATH PGDATA=/var/lib/postgresql/17/data
USER 999:999
EXPOSE 5432
# PostgreSQL's fast shutdown
STOPSIGNAL SIGINT
ENTRYPOINT ["postgres-entrypoint"]
