#!/bin/sh
# Runs once, when the database is made. A superuser would pass the row-level security that keeps tenants apart, so the
# service has a role of its own. psql quotes the password.
psql --username postgres --set ON_ERROR_STOP=1 --set password="$POSTGRES_PASSWORD" <<'SQL'
CREATE ROLE auditcore LOGIN PASSWORD :'password';
CREATE DATABASE auditcore OWNER auditcore;
SQL
